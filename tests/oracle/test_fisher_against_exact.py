"""The Fisher forms of both interventions against the network itself, on the shipped pocket pair."""

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from medcore_prune import zoo
from medcore_prune.calibration import calibrate
from medcore_prune.criterion_registry import build_criterion
from medcore_prune.data import phantoms
from medcore_prune.groups import groups_of
from medcore_prune.interventions import RiskData, exact_interventions


@pytest.mark.parametrize(("name", "with_reference"), [("zero", False), ("reset", True)])
def test_fisher_ranks_units_as_running_the_network_does(name: str, with_reference: bool, tmp_path: Path) -> None:
    model, reference = zoo.pocket("adapted"), zoo.pocket("reference")
    data = {"polyps": phantoms.make("phantom_polyp_a", seed=3, count=4)}
    statistics = calibrate(model, reference, data, samples=4, cache_dir=tmp_path, progress=False)
    groups = [groups_of(model)[index] for index in (0, 23)]
    units = [range(12), range(0, 480, 40)]
    exact = exact_interventions(
        model,
        groups,
        {"polyps": RiskData.of(data["polyps"], 96)},
        reference=reference if with_reference else None,
        units=units,
        progress=False,
    )["polyps"]
    scores = build_criterion(name, statistics=statistics).score_all(groups)
    # the second order says how much a unit matters; the first, which it leaves out, in which direction
    agreement = [
        spearmanr(values[list(of_group)], cost.abs()).statistic
        for values, of_group, cost in zip(scores, units, exact, strict=True)
    ]
    assert min(agreement) > 0.4, agreement
