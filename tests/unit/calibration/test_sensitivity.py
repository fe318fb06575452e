import pytest
import torch
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.sensitivity import block_sensitivity
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.criteria.magnitude import Magnitude
from medcore_prune.models.groups import groups_of
from medcore_prune.scoring.recipes import Baseline


def statistics(heads: list[float], neurons: list[float]) -> Statistics:
    """Squared slopes that are the same for all units of a group, and twice as large on data set b."""
    values = {
        f"{group.name_out}.units": torch.full((group.n_units,), (heads if group.family == "heads" else neurons)[b])
        for b, group in ((g.block, g) for g in groups_of(tiny_sam()))
    }
    sets = {"a": values, "b": {name: 2 * value for name, value in values.items()}}
    return Statistics.from_tensors(others={Need.DIRECTIONAL_ZERO: sets})


def test_families_count_alike_whatever_their_scale() -> None:
    # means over blocks: 250 for heads, 0.25 for neurons
    found = statistics([100.0, 200.0, 300.0, 400.0], [0.1, 0.1, 0.4, 0.4])
    expected = [(0.4 + 0.4) / 2, (0.8 + 0.4) / 2, (1.2 + 1.6) / 2, (1.6 + 1.6) / 2]
    assert block_sensitivity(found, tiny_sam(), source=Need.DIRECTIONAL_ZERO) == pytest.approx(expected)


def test_a_family_without_slopes_is_left_out() -> None:
    found = statistics([0.0] * 4, [1.0, 1.0, 1.0, 1.0])
    assert block_sensitivity(found, tiny_sam(), source=Need.DIRECTIONAL_ZERO) == pytest.approx([0.5] * 4)


def test_quotas_fall_with_it_without_a_fisher() -> None:
    recipe = Baseline(Magnitude, quotas="sensitivity", tau=1.0, sensitivity=Need.DIRECTIONAL_ZERO)
    assert recipe.needs == {Need.DIRECTIONAL_ZERO}
    found = statistics([1.0, 9.0, 1.0, 1.0], [1.0, 9.0, 1.0, 1.0])
    blocks = mp.plan(tiny_sam(), "h50_m50", recipe, statistics=found, protect=0).blocks
    kept = [len(block.keep_neurons) for block in blocks]
    assert kept[1] == max(kept) > min(kept)


def test_refusals() -> None:
    with pytest.raises(StatisticsError, match=r"no block sensitivity from .*gram.*: expected one of fisher"):
        block_sensitivity(statistics([1.0] * 4, [1.0] * 4), tiny_sam(), source=Need.GRAM)
    with pytest.raises(StatisticsError, match="hold no fisher"):
        block_sensitivity(statistics([1.0] * 4, [1.0] * 4), tiny_sam())
