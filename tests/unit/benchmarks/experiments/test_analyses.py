"""Sampling units and correlating ranks."""

import pytest
import torch
from tiny import tiny_sam

from medcore_prune.benchmarks.experiments.analyses import _mean, _overlap, draw_units, reference_strength, spearman
from medcore_prune.benchmarks.report.comparison import agreement_grid
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.models.groups import groups_of


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
