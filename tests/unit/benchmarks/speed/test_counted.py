"""Counts of operations are those of the work, on any machine."""

import pytest
import torch
from tiny import tiny_sam
from torch import nn

from medcore_prune.benchmarks.runner.settings import COUNTS
from medcore_prune.benchmarks.speed import counted
from medcore_prune.benchmarks.speed.counted import full, operations, streams
from medcore_prune.correction.correct import TOGETHER


def test_operations_of_a_product() -> None:
    layer = nn.Linear(5, 7, bias=False)
    assert counted._flops(lambda: layer(torch.zeros(3, 5))) == 2 * 3 * 5 * 7


def test_operations_of_the_steps() -> None:
    found = operations(tiny_sam(), images=2)
    of = {name: step["over_training"] for name, step in found["steps"].items()}
    assert of["training"] == 1
    # a forward pass of two matrix products that a training step takes each, beside the decoder's
    assert 0.25 < of["encoder"] < of["evaluation"] < 0.4
    assert of["prediction, 1 box"] < of["prediction, 5 boxes"] < 5 * of["prediction, 1 box"]
    # two backward passes in the place of one
    assert 1.2 < of["fisher, both losses"] < 2
    together = found["correction_together"]
    assert together["over_training"] < of["correction"]
    assert (found["together"], of.keys() & {"metrics", "cut"}) == (TOGETHER, set())


def test_streams_of_a_full_correction() -> None:
    found = streams()
    # 64 x 64 tokens of 768 channels in float32; the unpruned model's stream and those of the others
    assert found["mb_an_image_and_stream"] == round(64 * 64 * 768 * 4 / 1e6, 2)
    assert found["images"] == 3 * COUNTS["full"].correction
    assert found["gb"] == pytest.approx((TOGETHER + 1) * found["images"] * 64 * 64 * 768 * 4 / 1e9, rel=0.01)


def test_work_of_a_full_comparison() -> None:
    found = full()
    assert found["calibrated_samples"] == 2 * 3 * 128
    assert found["corrected_images"] == found["corrected_plans"] * 3 * 64
    assert found["evaluated_images"] == found["evaluated_plans"] * 300
    assert found["corrected_plans"] >= found["methods"] * found["levels"]
    assert found["interventions"] == 2 * (96 + 96) * 16 * 3
    # as large as the prunable weights: three sums of squares of each set and model, two gradients of each set, and the
    # reference's weights; beside them Gram matrices, whose largest are of the MLP's neurons
    weights, grams = (4 * 12 * factor * 768**2 / 1e9 for factor in (12, 3 * (4**2 + 3)))
    assert (9 + 9 + 6 + 1) * weights + grams < found["statistics_gb"] < 26 * weights + 3 * grams
