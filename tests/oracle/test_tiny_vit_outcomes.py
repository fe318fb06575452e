"""Recovery and boundary leverage of an encoder with unequal blocks, each against the plain loop.

Images of a TinyViT keep their aspect and lie in padding (METHOD section 14), which no displacement is measured in. Its
batch normalisation must not mix the images of a batch.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from displaced import slowly_displaced
from lite import LITE, lite_batch, tiny_lite
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune.benchmarks.experiments.leverage.steps import StepGrid
from medcore_prune.benchmarks.experiments.leverage.sweep import Cells, measure
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.data.frame import Frame
from medcore_prune.data.masks import band_radius, boundary_band, resize_mask
from medcore_prune.data.splits.split import split
from medcore_prune.models.families import encoder_of
from medcore_prune.models.protocol import batch_of
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.objective import RecoveryLoss
from medcore_prune.training.recover import recover
from medcore_prune.training.settings import RecoverySettings, RecoveryWeights

SIDE, FRAME = LITE.image_size, Frame(LITE.image_size, padded=True)
WEIGHTS = RecoveryWeights(1.0, 0.7, 3.0, 1.5, 0.5)


def pair() -> tuple[nn.Module, nn.Module]:
    """A cut model and its teacher."""
    teacher = tiny_lite()
    return mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=0)), teacher


def seen(model: nn.Module, image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding (C, h, w) and logits (S, S) of one image by the modules of the model alone."""
    embedding = encoder_of(model)(image[None])
    sparse, dense = model.prompt_encoder(points=None, boxes=box[None], masks=None)
    low, _ = model.mask_decoder(embedding, model.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
    return embedding[0], F.interpolate(low, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]


def blurred(values: Tensor, sigma: float) -> Tensor:
    """A Gaussian cut off at three deviations, the border repeated outward; all pairs of pixels."""
    radius, places = max(1, int(np.ceil(3 * sigma))), torch.arange(SIDE)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    rows = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    for offset, weight in zip(offsets.tolist(), (kernel / kernel.sum()).tolist(), strict=True):
        rows[places, (places + offset).clamp(0, SIDE - 1)] += weight
    return rows @ values.double() @ rows.T


def loss_of_one(model: nn.Module, teacher: nn.Module, image: Tensor, box: Tensor, mask: Tensor) -> Tensor:
    """Eq. 14 written out for one image with one object."""
    (features, logits), (taught, wanted) = seen(model, image, box), seen(teacher, image, box)
    band = boundary_band(mask[None] > 0.5, band_radius(SIDE))[0, 0] > 0
    y, p = mask[0].double(), logits.double().sigmoid()
    dice = 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5)
    bce, weight = -(y * p.log() + (1 - y) * (1 - p).log()), 1 + 2.5 * band.double()
    feature = (features - taught).double().square().sum() / taught.double().square().sum()
    ours, theirs = logits.double()[band], wanted.double()[band]
    distance = (ours - theirs).square().mean() / theirs.var(correction=0).clamp(min=1)
    sigma = 3.0 * SIDE / 256
    high = ((p - y) - blurred(p - y, sigma)).square().sum() / (y - blurred(y, sigma)).square().sum().clamp(min=1)
    terms = torch.stack([dice, (weight * bce).sum() / weight.sum(), feature, distance, high])
    return (terms * torch.tensor([1.0, 0.7, 3.0, 1.5, 0.5], dtype=torch.float64)).sum()


def test_the_loss_of_a_batch_and_its_gradients_are_those_of_its_images_alone() -> None:
    (model, teacher), (images, boxes, masks) = pair(), lite_batch(3)
    loss = RecoveryLoss(teacher, WEIGHTS, 2.5, "fp32")(model, Batch(images, boxes, masks)).total
    loss.backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    teacher.requires_grad_(False)
    slow = torch.stack([loss_of_one(model, teacher, *each) for each in zip(images, boxes, masks, strict=True)]).mean()
    assert float(loss.detach()) == pytest.approx(float(slow.detach()), rel=1e-5)
    slow.backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert any("attention_biases" in name for name in got)
    # what makes the masks that nobody asks for has a gradient of 0, or none
    assert got.keys() <= expected.keys()
    for name, gradient in expected.items():
        own = got.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(own, gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_a_recovery_keeps_the_statistics_of_batch_norms_and_what_lies_before_the_blocks() -> None:
    model, teacher = pair()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    data = split({"a": TinySamples("a", 8)}, fractions=(0.5, 0.25, 0.25))
    settings = RecoverySettings(steps=3, batch_size=2, learning_rate=1e-2, validate_every=0)
    recover(model, teacher, data, settings, progress=False)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if "running_" in name or "num_batches" in name}
    assert still
    assert not changed & still
    assert {name.rsplit(".", 1)[1] for name in changed} >= {"weight", "bias", "attention_biases"}


def test_displacements_are_measured_on_the_image_and_not_in_its_padding() -> None:
    model, samples = tiny_lite(), TinySamples("a", 2)
    grid = StepGrid((0.0, 0.5), (0.0, 0.5))
    plans = {level: mp.plan(model, level, "magnitude", protect=0) for level in grid.levels}
    cells = Cells.of(model, grid, plans, "fp32")
    found = measure(model, cells, samples, Settings(Path("unused")))
    for step, percent in cells.saved.items():
        assert percent > 0
        got = found["sums_truth_3"][cells.move_of(step)]
        for number, sample in enumerate(samples):
            image, box = batch_of([(sample.image, sample.box)], FRAME)
            maps = []
            for plan in (plans[step.start], plans[step.stop]):
                with torch.no_grad():
                    logits = seen(mp.prune(model, plan), image[0], box[0])[1]
                # 40 x 56 pixels in 32 x 32: nine rows of padding below
                shown = F.interpolate(logits[None, None, :23], (256, 256), mode="bilinear", align_corners=False)
                maps.append(shown[0, 0].double().numpy())
            truth = resize_mask(sample.mask, 256)
            assert got[number] == pytest.approx(sum(slowly_displaced(*maps, truth, 3)), rel=2e-3)
