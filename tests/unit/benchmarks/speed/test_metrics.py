"""The speed comparison runs, on masks that agree as predictions do, and compares the same number."""

import json

import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.speed.metrics import command, lesion_pair
from medcore_prune.evaluation.metrics import evaluate_mask

pytest.importorskip("monai")


def test_pairs_look_like_predictions():
    scores = [evaluate_mask(*lesion_pair(seed, 64)) for seed in range(10)]
    assert all(0.6 < score.dice < 1 for score in scores)


def test_both_sides_compute_the_same_distance():
    result = CliRunner().invoke(command, ["--size", "48", "--count", "3", "--repeats", "1"], catch_exceptions=False)
    measured = json.loads(result.stdout)
    assert measured["largest_difference_px"] < 1e-4
    assert measured["largest_difference"] < 1e-6
    for side in ("monai_hd95", "monai_all"):
        ratio = measured[f"{side}_ms"] / measured["ours_ms"]
        assert measured[f"{side}_over_ours"] == pytest.approx(ratio, rel=0.02)
        assert measured[f"{side}_over_ours_spread"] == [measured[f"{side}_over_ours"]] * 2
