"""What `prune --uniform` leaves, what it rounds, and the Boundary F1 that regular shapes cost."""

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from lite import tiny_lite
from tiny import TINY, tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import BudgetError
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.outputs.price import Price
from medcore_prune.data.splits.beside import split_file
from medcore_prune.evaluation.intervals import Difference

NEURONS = 4 * TINY.embed_dim


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, twelve images, and their split, a third of which is for validation."""
    monkeypatch.chdir(tmp_path)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--size", "48", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    mp.save(tiny_sam(), "whole.safetensors")
    shared_out(0.34)
    return tmp_path


def shared_out(validation: float) -> None:
    sets = {"own": mp.data.folder("set", name="own")}
    mp.data.split(sets, fractions=(0.5, validation, 0.5 - validation)).save(split_file("whole.safetensors"))


def prune(out: str, *words: str, method: str = "magnitude") -> Result:
    asked = ["prune", "whole.safetensors", "--data", "own=set", "--method", method, "--cache", "cache", "--out", out]
    return CliRunner().invoke(cli, [*asked, *words])


@pytest.mark.parametrize("more", [(), ("--correct",)])
def test_the_price_is_what_evaluate_finds_between_the_two_cuts(here: Path, more: tuple[str, ...]) -> None:
    # a shallow level, so that contours differ
    words = ("--level", "h25_m30", *more)
    regular = prune("regular.safetensors", "--uniform", *words)
    plain = prune("plain.safetensors", *words)
    assert (regular.exit_code, plain.exit_code) == (0, 0), regular.output
    sets = {"own": mp.data.folder("set", name="own")}
    validation = mp.data.Split.load(split_file("regular.safetensors"), sets).validation
    found = {
        name: mp.evaluate(mp.load(f"{name}.safetensors"), validation, progress=False) for name in ("regular", "plain")
    }
    cost = (found["regular"]["bf1"] - found["plain"]["bf1"]).mean()
    assert cost != 0
    record = json.loads((here / "regular.report.json").read_text())["price_of_uniform"]
    assert record["bf1"]["value"] == pytest.approx(cost)
    assert record["plain_removed"] == json.loads((here / "plain.report.json").read_text())["cost"]["params_removed"]
    count = len(validation["own"])
    said = (
        f"BF1 {cost:+.4f} [{record['bf1']['low']:+.4f}, {record['bf1']['high']:+.4f}] (95 % interval) to the same cut"
    )
    (line,) = [line for line in regular.stdout.splitlines() if line.startswith("price of --uniform")]
    assert line.startswith(f"price of --uniform: {said}")
    assert f"on {count} validation images" in line
    assert said in (here / "regular.report.md").read_text()
    # whoever waits knows for what
    assert "first the same cut is made without it" in regular.stderr
    assert "price of" not in plain.output
    assert "price_of_uniform" not in json.loads((here / "plain.report.json").read_text())


def test_without_validation_images_there_is_no_price(here: Path) -> None:
    shared_out(0.0)
    result = prune("small.safetensors", "--uniform")
    assert result.exit_code == 0, result.output
    assert "price of --uniform: not measured; cut once more without it" in result.stdout
    assert "first the same cut" not in result.stderr
    assert "price_of_uniform" not in json.loads((here / "small.report.json").read_text())


def test_a_regular_cut_is_made_where_the_other_cannot_be(here: Path) -> None:
    whole = tiny_sam()
    with torch.no_grad():
        # no gradient reaches the encoder, so that no block is more sensitive than another
        whole.image_encoder.neck[-1].weight.zero_()
    mp.save(whole, "whole.safetensors")
    result = prune("small.safetensors", "--uniform", "--calibration", "2", method="vanilla_fisher")
    assert result.exit_code == 0, result.output
    assert re.search("note: without --uniform the cut cannot be made: .*sensitivity of block 0 is 0", result.stderr)
    assert "price of --uniform: not measured" in result.stdout
    assert mp.load("small.safetensors") is not None


def test_multiples_of_neurons_stay(here: Path) -> None:
    result = prune("small.safetensors", "--uniform", "--multiple-of", "8", "--level", "h50_m66.6")
    assert result.exit_code == 0, result.output
    # 33.4 % of 96 are 32.06, and so 32
    assert f"rounded from h50_m66.6: every block keeps 2 of 4 heads and 32 of {NEURONS} neurons" in result.stdout
    result = prune("fewer.safetensors", "--uniform", "--multiple-of", "40", "--level", "h50_m66.6")
    assert result.exit_code == 0, result.output
    assert f"every block keeps 2 of 4 heads and 40 of {NEURONS} neurons" in result.stdout
    for name, stay in (("small", 32), ("fewer", 40)):
        plan = json.loads((here / f"{name}.report.json").read_text())
        assert plan["level"] == f"h50_m{100 * (1 - stay / NEURONS):.4f}"
        sizes = {layer.out_features for key, layer in layers(f"{name}.safetensors") if key.endswith("lin1")}
        assert sizes == {stay}


def layers(file: str) -> list[tuple[str, torch.nn.Linear]]:
    found = mp.load(file).image_encoder.named_modules()  # type: ignore[union-attr,operator]
    return [(name, layer) for name, layer in found if isinstance(layer, torch.nn.Linear)]


@pytest.mark.parametrize("multiple", [1, 7, 8, 32, NEURONS])
def test_the_nearest_multiple_stays_that_a_block_may_keep(multiple: int) -> None:
    for percent in range(0, 96, 5):
        stay = NEURONS - int(percent / 100 * NEURONS + 0.5)
        # at least 5 % of the neurons have to stay
        may = [count for count in range(multiple, NEURONS + 1, multiple) if count >= NEURONS / 20]
        expected = min(may, key=lambda count: (abs(count - stay), count))
        level = mp.regular_level(tiny_sam(), f"h0_m{percent}", multiple)
        assert NEURONS * (1 - level.neurons) == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_regular_is_refused_before_the_work(here: Path) -> None:
    result = prune("small.safetensors", "--multiple-of", "8")
    assert result.exit_code == 2
    assert "rounds what stays in every block alike: give --uniform too" in result.output
    for multiple in (0, NEURONS + 1):
        with pytest.raises(BudgetError, match=f"multiples of {multiple}: expected 1 to the {NEURONS} neurons"):
            mp.regular_level(tiny_sam(), "h50_m50", multiple)
    mp.save(tiny_lite(), "whole.safetensors")
    result = prune("small.safetensors", "--uniform", method="vanilla_fisher")
    assert re.search("blocks of this model have .* the same count in every block", str(result.exception))
    assert not (here / "cache").exists()


@pytest.mark.parametrize(
    ("low", "high", "groups", "said"),
    [
        (-0.2, -0.1, 12, "worse"),
        (0.1, 0.2, 12, "better"),
        (-0.1, 0.1, 12, "within its noise"),
        (-0.2, -0.1, 4, "4 groups of images, too few to tell"),
        (-0.2, -0.1, 1, "1 group of images, too few to tell"),
    ],
)
def test_a_price_says_how_sure_it_is(low: float, high: float, groups: int, said: str) -> None:
    price = Price(Difference((low + high) / 2, low, high, groups), "12 validation images", 0.5)
    assert price.text().endswith(f"with 50.0% of the parameters off, on 12 validation images: {said}")
