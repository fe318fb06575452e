"""An experiment from outside: a file that says what is its own is a command, and is listed, run and rendered again."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pocket_pair import write_pair
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune._support.errors import MedcorePruneError, RegistryError
from medcore_prune.benchmarks import cli as bench
from medcore_prune.benchmarks.runner.evaluate import notice
from medcore_prune.benchmarks.runner.experiment import Experiment, experiments, register_experiment
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.data.splits.split import FRACTIONS, Split

PLUGIN = '''
from dataclasses import dataclass, replace

import click

from medcore_prune.benchmarks.report.page import Page, Section
from medcore_prune.benchmarks.report.summary import summarise
from medcore_prune.benchmarks.report.tables import comparison
from medcore_prune.benchmarks.runner.experiment import Experiment, register_experiment
from medcore_prune.benchmarks.runner.jobs import make_jobs
from medcore_prune.pruning.level import Level


@register_experiment("by_size", source="a test")
@dataclass
class BySize(Experiment):
    """Cut the smallest weights.

    More about it.
    """

    options = (click.option("--times", type=int, default=1, help="How often."),)
    levels = (Level.parse("h50_m70"),)
    fixed = {"gallery": False, "subject": "magnitude"}
    modes = {"own": "as it comes"}

    times: int

    def __post_init__(self):
        self.settings = replace(self.settings, methods=("magnitude",))

    def announced(self):
        yield f"{self.times} times {len(self.settings.levels)} level"

    def jobs(self):
        return make_jobs(
            self.methods, self.inputs, self.statistics, self.settings, self.store, ("own",), self.name
        )

    @staticmethod
    def page(store):
        table = comparison(summarise(store), "own")
        return Page("By size", ["What is small goes."], [Section("Table", grids=[table])], [table])
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "by_size.py"
    path.write_text(PLUGIN)
    yield path
    if "by_size" in experiments:
        experiments.unregister("by_size")


def run(*words: str) -> Result:
    return CliRunner().invoke(bench.cli, words)


def test_a_file_is_a_command(plugin: Path, tmp_path: Path) -> None:
    few = ["--quick", "--set", "images=1", "--set", "eval_size=32", "--out", str(tmp_path / "out")]
    pair = write_pair(tmp_path)
    result = run("by_size", *pair, *few, "--times", "3", "--plugin", str(plugin))
    assert result.exit_code == 0, result.output
    assert "3 times 1 level" in result.output
    assert "Macro average, no recovery, as it comes" in result.output
    store = ResultStore.open(tmp_path / "out")
    assert store.run["identity"]["experiment"] == "by_size"
    assert {(c.cell.experiment, c.cell.method) for c in store.cells() if c.cell.level == "h50_m70"} == {
        ("by_size", "magnitude")
    }
    page = tmp_path / "out" / "report.html"
    before = page.read_bytes()
    page.unlink()
    again = run("report", str(tmp_path / "out"), "--plugin", str(plugin))
    assert again.exit_code == 0, again.output
    assert page.read_bytes() == before


def test_its_help_is_its_docstring_with_the_options_of_all_and_its_own(plugin: Path) -> None:
    for words in (["by_size", f"--plugin={plugin}", "--help"], ["by_size", "--help", "--plugin", str(plugin)]):
        said = run(*words).output
        assert "Cut the smallest weights." in said
        assert "--set KEY=VALUE" in said
        assert "--times" in said


def test_it_is_listed(plugin: Path) -> None:
    said = run("list", "--plugin", str(plugin)).output
    assert re.search(r"by_size +a test; plug-in \S+by_size.py +Cut the smallest weights", said)


def test_without_its_plugin_there_is_no_such_command() -> None:
    result = run("by_size", "--plugin")
    assert result.exit_code == 2
    assert "No such command 'by_size'" in result.output


def test_results_of_an_unknown_experiment_are_refused(tmp_path: Path) -> None:
    ResultStore.create(tmp_path / "out", {"identity": {"experiment": "never_heard_of"}})
    result = run("report", str(tmp_path / "out"))
    assert isinstance(result.exception, MedcorePruneError)
    assert "holds results of 'never_heard_of'" in str(result.exception)


def test_an_installed_one_is_shown_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("elsewhere", "a_package_that_is_not_there:Class", "medcore_prune.experiments")
    monkeypatch.setattr(bench, "entry_points", lambda group: [point] if group == point.group else [])
    group = bench.Bench("medcore-bench")
    said = CliRunner().invoke(group, ["--help"]).output
    assert re.search(r"elsewhere +An experiment of a_package_that_is_not_there", said)
    assert "a_package_that_is_not_there" not in sys.modules


@pytest.mark.parametrize(
    ("name", "declared", "message"),
    [
        ("Wrong Name", type("A", (Experiment,), {}), "bad experiment name"),
        ("main", type("A", (Experiment,), {}), "'main' is taken"),
        ("mine", lambda: None, "expected a class derived from Experiment"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: str, declared: type[Experiment], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        register_experiment(name)(declared)


def test_every_built_in_experiment_is_registered() -> None:
    known = {"baselines", "main", "transfer", "ablation", "leverage", "landscape", "automatic"}
    assert {entry.name for entry in experiments.entries()} >= known


@pytest.mark.parametrize(
    ("adapted", "reference", "says"),
    [("lite_medsam", None, True), ("adapted.pth", "lite_medsam", True), ("adapted.pth", "reference.pth", False)],
)
def test_what_lite_medsam_may_have_seen_is_said_on_every_page(
    adapted: str, reference: str | None, says: bool, tmp_path: Path
) -> None:
    sets = {"tiny": TinySamples("tiny", 2)}
    inputs = Inputs(tiny_sam(), None, sets, lambda _: sets, False, False, Split({}, {}, dict(sets), 0, FRACTIONS))
    said = notice(inputs, Settings(out=tmp_path, adapted=adapted, reference=reference))
    assert said.startswith("research comparison: not a clinical result")
    assert ("training data may have held public images" in said) == says
