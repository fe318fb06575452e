"""The Fisher forms of both interventions against the network itself, on the shipped pocket pair."""

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from medcore_prune import zoo
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.calibration.interventions import RiskData, exact_interventions
from medcore_prune.data import phantoms
from medcore_prune.data.frame import Frame
from medcore_prune.models.groups import FAMILY_NAMES, groups_of
from medcore_prune.scoring.registry import build_criterion


@pytest.mark.parametrize(("name", "with_reference"), [("zero", False), ("reset", True)])
def test_fisher_ranks_units_as_running_the_network_does(name: str, with_reference: bool, tmp_path: Path) -> None:
    model, reference = zoo.pocket("adapted"), zoo.pocket("reference")
    data = {"polyps": phantoms.make("phantom_polyp_a", seed=3, count=4)}
    statistics = calibrate(model, reference, data, samples=4, cache_dir=tmp_path, progress=False)
    groups = [group for group in groups_of(model) if group.block in (0, 3, 6, 9, 11)]
    units = [range(0, group.n_units, group.n_units // 12) for group in groups]
    exact = exact_interventions(
        model,
        groups,
        {"polyps": RiskData.of(data["polyps"], Frame(96))},
        reference=reference if with_reference else None,
        units=units,
        progress=False,
    )["polyps"]
    scores = build_criterion(name, statistics=statistics).score_all(groups)
    for family in FAMILY_NAMES:
        # the second order says how much a unit matters; the first, which it leaves out, in which direction
        pairs = [
            (values[list(of_group)], cost.abs())
            for group, values, of_group, cost in zip(groups, scores, units, exact, strict=True)
            if group.family == family
        ]
        assert len(pairs) == 5
        agreement = spearmanr(*(torch.cat(part) for part in zip(*pairs, strict=True)), alternative="greater")
        # 60 units: chance alone reaches this once in a thousand
        assert agreement.pvalue < 1e-3, (family, agreement)
