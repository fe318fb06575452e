import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medcore_prune.data.masks import band_radius, boundary_band
from medcore_prune.models.losses import band_term, bce_loss, boundary_loss, dice_loss, plain_loss


def square(size: int, start: int, stop: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, start:stop, start:stop] = 1
    return mask


def test_band_of_a_drawn_square() -> None:
    # 3 x 3 in 9 x 9, radius 1: dilated to 5 x 5, eroded to its middle pixel
    band = boundary_band(square(9, 3, 6), 1)
    assert band.sum() == 25 - 1
    assert band[0, 0, 4, 4] == 0
    assert band[0, 0, 2:7, 2:7].sum() == 24


def test_band_ignores_the_image_border() -> None:
    # the left half of 8 x 8: the only contour is the line between columns 3 and 4
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    assert boundary_band(mask, 2)[0, 0].all(dim=0).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    assert not boundary_band(torch.ones(1, 1, 5, 5), 1).any()
    assert not boundary_band(torch.zeros(1, 1, 5, 5), 1).any()


@given(seed=st.integers(0, 1000), radius=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_band_is_dilation_minus_erosion(seed: int, radius: int) -> None:
    mask = np.random.default_rng(seed).random((12, 15)) < 0.6
    element = np.ones((2 * radius + 1,) * 2)
    dilated = ndimage.binary_dilation(mask, element)
    eroded = ndimage.binary_erosion(mask, element, border_value=1)
    band = boundary_band(torch.from_numpy(mask)[None, None], radius)[0, 0].numpy()
    np.testing.assert_array_equal(band, dilated & ~eroded)


@pytest.mark.parametrize(("size", "radius"), [(256, 3), (1024, 12), (96, 1), (128, 2), (8, 1)])
def test_band_radius_scales_with_the_grid(size: int, radius: int) -> None:
    assert band_radius(size) == radius


def test_dice_by_hand() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    certain = (mask * 2 - 1) * 50
    assert dice_loss(certain, mask).item() == pytest.approx(0, abs=1e-5)
    assert dice_loss(-certain, mask).item() == pytest.approx(1, abs=1e-5)
    # p = 1/2 on 16 pixels, 8 inside: 1 - 2 * 4 / (16 / 4 + 8)
    assert dice_loss(torch.zeros_like(mask), mask).item() == pytest.approx(1 / 3, abs=1e-5)


def test_cross_entropy_by_hand() -> None:
    mask = square(6, 1, 4)
    assert bce_loss(torch.zeros_like(mask), mask).item() == pytest.approx(math.log(2))
    # 9 of 36 pixels inside, all logits 1: inside log(1 + e^-1), outside log(1 + e)
    expected = (9 * math.log1p(math.exp(-1)) + 27 * math.log1p(math.e)) / 36
    assert bce_loss(torch.ones_like(mask), mask).item() == pytest.approx(expected)


def test_band_term_is_normalised_over_all_pixels() -> None:
    mask = square(9, 3, 6)
    band = boundary_band(mask, 1)
    assert band_term(torch.zeros_like(mask), mask, band).item() == pytest.approx(24 / 81 * math.log(2))


@pytest.mark.parametrize("lambda_b", [0.0, 1.0, 7.5])
def test_boundary_loss_is_equation_9(lambda_b: float) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 1, 8, 8), generator=rng, dtype=torch.float64)
    mask = (torch.rand((3, 1, 8, 8), generator=rng) < 0.4).double()
    band = boundary_band(mask, 1)
    p = logits.sigmoid()
    cross_entropy = -(mask * p.log() + (1 - mask) * (1 - p).log())
    weighted = ((1 + lambda_b * band) * cross_entropy).mean((1, 2, 3))
    expected = dice_loss(logits, mask) + weighted
    torch.testing.assert_close(boundary_loss(logits, mask, band, lambda_b), expected)


def test_losses_are_per_sample() -> None:
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn((3, 1, 8, 8), generator=rng)
    mask = (torch.rand((3, 1, 8, 8), generator=rng) < 0.5).float()
    together = plain_loss(logits, mask)
    assert together.shape == (3,)
    for index in range(3):
        alone = plain_loss(logits[index : index + 1], mask[index : index + 1])
        torch.testing.assert_close(alone[0], together[index])


def test_empty_mask_and_extreme_logits_stay_finite() -> None:
    mask = torch.zeros(1, 1, 6, 6)
    for value in (-1e4, 1e4):
        logits = torch.full_like(mask, value, requires_grad=True)
        plain_loss(logits, mask).sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
