"""Sampling units and correlating ranks."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune.benchmarks.experiments import analyses
from medcore_prune.benchmarks.experiments.analyses import (
    _mean,
    _overlap,
    draw_units,
    early_samples,
    early_scores,
    reference_strength,
    spearman,
    stability,
)
from medcore_prune.benchmarks.report.comparison import agreement_grid
from medcore_prune.benchmarks.runner.experiment import Draws
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.jobs import Scores, make_jobs
from medcore_prune.benchmarks.runner.methods import choose_methods
from medcore_prune.benchmarks.runner.settings import COUNTS, Settings
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.calibration.collector import Need, prunable_layers
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.calibration.views import View
from medcore_prune.criteria.residual import Residual
from medcore_prune.models.groups import groups_of
from medcore_prune.pruning.level import Level


def test_units_are_drawn_from_blocks_that_may_be_pruned() -> None:
    groups = groups_of(tiny_sam())
    drawn = draw_units(groups, 5)
    counts = dict.fromkeys(("heads", "neurons"), 0)
    for group, units in zip(groups, drawn, strict=True):
        counts[group.family] += len(units)
        assert units == sorted(set(units))
        assert all(unit < group.n_units for unit in units)
        # four blocks protect one
        assert group.block < 3 or not units
    assert counts == {"heads": 5, "neurons": 5}
    assert drawn == draw_units(groups, 5)
    assert drawn != draw_units(groups, 5, seed=1)


def test_no_more_units_than_there_are() -> None:
    drawn = draw_units(groups_of(tiny_sam()), 1000)
    assert sum(len(units) for units in drawn[::2]) == 3 * 4


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * 2 / (4 * 15)
    assert spearman(torch.tensor([1.0, 5, 7, 9]), torch.tensor([0.0, 1, 3, 2])) == pytest.approx(0.8)


@pytest.mark.parametrize("values", [[1.0, 2.0], [3.0, 3.0, 3.0]])
def test_spearman_is_undefined_for_few_or_equal_values(values: list[float]) -> None:
    assert spearman(torch.tensor(values), torch.arange(len(values)).float()) is None


def test_stability_of_equal_and_of_reversed_scores() -> None:
    model = tiny_sam()
    scores = {(g.block, g.family): torch.arange(g.n_units).double() for g in groups_of(model)}
    reverse = {key: -values for key, values in scores.items()}
    assert _mean(scores, scores, "heads") == pytest.approx(1.0)
    assert _mean(reverse, scores, "neurons") == pytest.approx(-1.0)
    assert _overlap(scores, scores, "heads", model, "h50_m30") == 1.0
    # 30 % of the lowest and 30 % of the highest have nothing in common
    assert _overlap(reverse, scores, "neurons", model, "h50_m30") == 0.0


def comparison(place: Path, sets: dict[str, TinySamples], calibration: int) -> tuple[Inputs, Settings]:
    """Inputs of the tiny pair, and what is asked for."""
    counts = replace(COUNTS["quick"], calibration=calibration)
    settings = Settings(place, counts, methods=("zero_fisher", "wanda", "residual", "magnitude", "random"))
    roles = mp.data.split(sets)
    return Inputs(tiny_sam(), tiny_sam(1), sets, lambda _: sets, False, False, roles), settings


def test_early_scores_are_those_of_the_first_samples_and_leave_one_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"a": TinySamples("a", 16), "b": TinySamples("b", 17)}
    # neither does the first number come to whole batches, nor is it left
    inputs, settings = comparison(tmp_path, sets, 16)
    store, methods = ResultStore(tmp_path), choose_methods(settings)
    found = early_scores(methods, inputs, store, settings)
    needs = frozenset[Need]().union(*(method.needs for method in methods))
    draws = Draws(inputs, store, settings, needs)
    whole = draws[0]
    # known by the samples that it says itself, before it is collected
    said = {name: whole.samples(name) for name in whole.datasets}
    assert draws.digest(0) == hashlib.sha256(json.dumps(said).encode()).hexdigest()
    files = list((tmp_path / "calibration").rglob("*.safetensors"))
    # as many as if nothing had been looked at on the way: kinds and data sets
    assert len(files) == len(whole.parts)
    assert sum(path.stat().st_size for path in (tmp_path / "analysis").rglob("*.npz")) < 100_000
    sharded = calibrate(
        inputs.adapted, inputs.reference, sets, 16, needs, cache_dir=tmp_path / "shards", shards=[4, 8], progress=False
    )
    chosen = {method.name: method for method in methods if method.needs}
    assert list(found) == [(name, n) for n in (4, 8) for name in chosen]
    for (name, n), scores in found.items():
        wanted = mp.unit_scores(chosen[name].recipe.build(sharded.take(n), inputs.adapted), inputs.adapted)
        for key, values in wanted.items():
            if name == "residual":
                # its rounds take the least first: of two units that are nearly alike, rounding says which
                assert spearman(scores[key], values) > 0.95
            else:
                torch.testing.assert_close(scores[key], values, rtol=1e-4, atol=1e-7)
    # what is kept is not taken again, but where it is asked for
    asked: list[tuple[frozenset[Need], int]] = []
    draw = analyses.calibrated_draw
    monkeypatch.setattr(analyses, "calibrated_draw", lambda *args: (asked.append((args[3], args[5])), draw(*args))[1])
    final = {m.name: mp.unit_scores(m.recipe.build(whole, inputs.adapted), inputs.adapted) for m in chosen.values()}
    made = stability(methods, inputs, store, settings, final)
    assert not asked
    assert made["samples"] == [4, 8, 16]
    for row in made["methods"].values():
        for family in row.values():
            assert family["spearman"][-1] == pytest.approx(1.0)
            assert family["overlap"][-1] == 1.0
            assert len(family["spearman"]) == 3
    again = early_scores(methods, inputs, store, settings, renewed=["zero_fisher"])
    assert asked == [(chosen["zero_fisher"].needs, n) for n in (4, 8)]
    assert all(torch.equal(again[key][group], values) for key in found for group, values in found[key].items())


def test_residual_is_scored_once_for_every_number_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"a": TinySamples("a", 8), "b": TinySamples("b", 9)}
    inputs, settings = comparison(tmp_path / "out", sets, 8)
    solved: list[str] = []
    of_group = Residual._of_group

    def counting(self: Residual, group: mp.StructuredGroup, view: View) -> torch.Tensor:
        solved.append(group.name_out)
        return of_group(self, group, view)

    monkeypatch.setattr(Residual, "_of_group", counting)

    def run(level: str) -> int:
        asked = replace(settings, methods=("residual",), levels=(Level.parse(level),), cache=tmp_path / "sums")
        store, (method,), scores = ResultStore(asked.out), choose_methods(asked), dict[tuple[str, int], Scores]()
        early_scores([method], inputs, store, asked)
        make_jobs([method], inputs, Draws(inputs, store, asked, method.needs), asked, store, keep=scores)
        stability([method], inputs, store, asked, {method.name: scores[method.name, 0]})
        before = len(solved)
        solved.clear()
        return before

    # 2, 4 and all 8 samples of two data sets, whose sums are others every time
    assert run("h50_m70") == 3 * 2 * len(groups_of(inputs.adapted))
    # and never again: what a run that goes on reads is kept, wherever the sums are
    assert run("h30_m50") == 0


def test_no_more_early_samples_than_every_data_set_has(tmp_path: Path) -> None:
    for calibration, smallest, wanted in ((128, 200, [16, 32, 64]), (128, 50, [16, 32]), (8, 8, [2, 4]), (1, 9, [])):
        sets = {"a": TinySamples("a", smallest), "b": TinySamples("b", 300)}
        assert early_samples(*comparison(tmp_path, sets, calibration)) == wanted


def constant_fisher(value: float) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    layers = prunable_layers(tiny_sam())
    return {n: (torch.full_like(x.weight, value), torch.full_like(x.bias, value)) for n, x in layers.items()}


@pytest.mark.parametrize(("factor", "says"), [(0.25, "0.25 on a."), (1e-6, "1e-06 on a. Next to nothing")])
def test_a_reference_that_does_not_respond_is_named(factor: float, says: str) -> None:
    both = Statistics.from_tensors({"a": constant_fisher(3.0)}, {"a": constant_fisher(3.0 * factor)})
    ratios = reference_strength(both, tiny_sam())
    assert ratios == {"a": pytest.approx(factor)}
    row = {family: {"zero": 0.5} for family in ("heads", "neurons")}
    found = {"methods": {"m": row}, "units": {"heads": 1}, "images": 1, "reference_fisher": ratios}
    assert any(says in line for line in agreement_grid(found, ["m"]).footer)


def test_without_a_reference_nothing_is_said_of_it() -> None:
    assert reference_strength(Statistics.from_tensors({"a": constant_fisher(1.0)}), tiny_sam()) == {}
