"""The recovery loss of Eq. 14 restated pixel by pixel, in float64, one sample at a time."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medcore_prune.data.masks import boundary_band
from medcore_prune.training.objective import (
    boundary_bce,
    boundary_logit_distance,
    feature_distance,
    high_frequency_distance,
)

SEEDS = range(4)


def case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, the teacher's logits, a mask with soft edges, and its band; (3, 17, 17) each."""
    rng = np.random.default_rng(seed)
    logits, teacher = 3 * rng.standard_normal((2, 3, 17, 17))
    soft = np.clip(ndimage.gaussian_filter(rng.standard_normal((3, 17, 17)), (0, 2, 2)) * 8 + 0.5, 0, 1)
    band = boundary_band(torch.tensor(soft > 0.5)[:, None], 2)[:, 0].numpy().astype(float)
    return logits, teacher, soft, band


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array)[:, None] for array in arrays]


def pixels(array: np.ndarray) -> list[float]:
    return array.reshape(-1).tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lambda_b", [0.0, 5.0])
def test_boundary_bce(seed: int, lambda_b: float) -> None:
    logits, _, mask, band = case(seed)
    got = boundary_bce(*tensors(logits, mask, band), lambda_b)
    for index in range(3):
        above = below = 0.0
        for value, y, b in zip(pixels(logits[index]), pixels(mask[index]), pixels(band[index]), strict=True):
            p = 1 / (1 + math.exp(-value))
            weight = 1 + lambda_b * b
            above += weight * -(y * math.log(p) + (1 - y) * math.log(1 - p))
            below += weight
        assert float(got[index]) == pytest.approx(above / below, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_boundary_logit_distance(seed: int) -> None:
    logits, teacher, _, band = case(seed)
    got = boundary_logit_distance(*tensors(logits, teacher, band))
    for index in range(3):
        pairs = [
            (value, target)
            for value, target, b in zip(pixels(logits[index]), pixels(teacher[index]), pixels(band[index]), strict=True)
            if b
        ]
        variance = np.var([target for _, target in pairs])
        assert len(pairs) > 20
        assert variance > 1
        mean = sum((value - target) ** 2 for value, target in pairs) / len(pairs)
        assert float(got[index]) == pytest.approx(mean / variance, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_feature_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, teacher = rng.standard_normal((2, 3, 5, 4, 4))
    got = feature_distance(torch.tensor(ours), torch.tensor(teacher))
    for index in range(3):
        above = sum((a - b) ** 2 for a, b in zip(pixels(ours[index]), pixels(teacher[index]), strict=True)) / 80
        below = sum(b**2 for b in pixels(teacher[index])) / 80
        assert float(got[index]) == pytest.approx(above / below, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma", [0.75, 1.4])
def test_high_frequency_distance(seed: int, sigma: float) -> None:
    logits, _, mask, _ = case(seed)
    got = high_frequency_distance(*tensors(logits, mask), sigma)

    def high(image: np.ndarray) -> np.ndarray:
        return image - ndimage.gaussian_filter(image, sigma, mode="nearest", radius=math.ceil(3 * sigma))

    for index in range(3):
        predicted, true = high(1 / (1 + np.exp(-logits[index]))), high(mask[index])
        energy = (true**2).sum()
        assert energy > 1
        assert float(got[index]) == pytest.approx(((predicted - true) ** 2).sum() / energy, rel=1e-9)
