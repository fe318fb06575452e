"""The options: what is gone says what to give, rare settings are typed, and the names listed are those there are."""

import re

import click
import pytest
from click.testing import CliRunner, Result

from medcore_prune.checkpoints.onnx.parts import EXPORTERS, PARTS
from medcore_prune.commands.cli import COMMANDS, cli
from medcore_prune.commands.group import GONE, Command
from medcore_prune.commands.options import (
    CONVENTIONS,
    MASK_FORMATS,
    ONNX_EXPORTERS,
    ONNX_PARTS,
    PHANTOMS,
    PRECISIONS,
    Setting,
    Whole,
    set_option,
)
from medcore_prune.commands.work.inputs import PHANTOM_TEST
from medcore_prune.commands.work.outputs.masks import FORMATS
from medcore_prune.commands.work.planning import PruneSettings
from medcore_prune.data import phantoms
from medcore_prune.models import precision
from medcore_prune.pruning import cost

# the options of the last version that had them all
FORMER = {
    "adapt": ["--layout", "--model", "--reference"],
    "prune": [
        *("--adapted", "--model", "--boxes", "--layout", "--attention", "--checkpointing", "--batch-size", "--verify"),
    ],
    "inspect": ["--model", "--image-size"],
    "evaluate": ["--model", "--image-size", "--boxes", "--layout", "--batch-size"],
    "recover": ["--pruned", "--model", "--image-size", "--boxes", "--layout", "--attention", "--checkpointing"],
    "predict": ["--pruned", "--model", "--image-size"],
    "export": ["--model", "--image-size", "--boxes", "--layout"],
}


def found(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, gone in FORMER.items() for option in gone])
def test_an_option_that_is_gone_says_what_to_give(name: str, option: str) -> None:
    result = CliRunner().invoke(cli, [name, option, "x"])
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: {option} is gone: {GONE[option]}"


def test_what_is_said_of_old_options_names_what_there_is() -> None:
    assert {option for gone in FORMER.values() for option in gone} == set(GONE)
    for sentence in GONE.values():
        for name in re.findall(r"(\w+) MODEL", sentence):
            assert "model" in {parameter.name for parameter in found(name).params}
    assert {"--data", "--image-size"} <= {option for parameter in found("prune").params for option in parameter.opts}


def test_an_option_that_never_was_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli, ["prune", "--nothing"])
    assert result.exit_code == 2
    assert "No such option" in result.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_shows_what_most_people_need_first(name: str) -> None:
    text = CliRunner().invoke(cli, [name, "--help"]).output
    first, more = text.split("\nOptions:\n")[1].split("\nMore options:\n")
    assert "--out" in first
    assert "--seed" not in first
    # both write into a folder of their own
    assert "--overwrite" in more or name in ("phantoms", "compress")
    assert sum(line.startswith("  -") for line in first.splitlines()) <= 10


def test_names_that_options_list_are_those_there_are() -> None:
    assert list(PHANTOMS) == phantoms.available()
    assert list(CONVENTIONS) == list(cost.CONVENTIONS)
    assert list(MASK_FORMATS) == list(FORMATS)
    assert PRECISIONS == precision.PRECISIONS
    assert (list(ONNX_PARTS), list(ONNX_EXPORTERS)) == (list(PARTS), list(EXPORTERS))
    calibration = next(each for each in found("prune").params if each.name == "calibration")
    assert calibration.default == PruneSettings.calibration
    images = next(each for each in found("evaluate").params if each.name == "images")
    assert isinstance(images, click.Option)
    assert f"{PHANTOM_TEST} phantoms" in (images.help or "")


@click.command(cls=Command)
@set_option({"seeds": Setting(Whole(1), "draws (1)"), "rate": Setting(click.FLOAT, "learning rate (0.1)")})
def rarely(rare: dict[str, object]) -> None:
    """Print them."""
    click.echo(repr(rare))


def run(*words: str) -> Result:
    return CliRunner().invoke(rarely, [part for word in words for part in ("--set", word)])


def test_rare_settings_are_of_their_type() -> None:
    assert run().output == "{}\n"
    assert run("seeds=3", "rate=0.5", "seeds=4").output == "{'seeds': 4, 'rate': 0.5}\n"
    shown = " ".join(CliRunner().invoke(rarely, ["--help"]).output.split())
    assert "seeds, draws (1); rate, learning rate (0.1)." in shown


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=3", "there is no setting 'seed': did you mean seeds?"),
        ("nothing=3", "there is no setting 'nothing': expected one of seeds, rate"),
        ("seeds", "'seeds': expected seeds=VALUE"),
        ("seeds=", "'seeds=': expected seeds=VALUE"),
        ("seeds=0", "seeds: 0 is not in the range x>=1."),
        ("rate=fast", "rate: 'fast' is not a valid float."),
    ],
)
def test_a_setting_that_is_none_is_wrong_usage(word: str, said: str) -> None:
    result = run(word)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: Invalid value for '--set': {said}"
