import pytest
import torch

from medcore_prune.data.masks import boundary_band
from medcore_prune.models.losses import bce_loss
from medcore_prune.training.objective import (
    blur_sigma,
    boundary_bce,
    boundary_logit_distance,
    feature_distance,
    gaussian_blur,
    high_frequency_distance,
)


def disc(size: int = 32, radius: float = 9.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((y - size / 2) ** 2 + (x - size / 2) ** 2) < radius**2).float()[None, None]


def noise(seed: int = 0, count: int = 2, size: int = 32) -> torch.Tensor:
    return 2 * torch.randn((count, 1, size, size), generator=torch.Generator().manual_seed(seed))


def test_boundary_bce_without_a_band_weight_is_plain_bce() -> None:
    logits, mask = noise(), disc().expand(2, -1, -1, -1)
    band = boundary_band(mask, 2)
    assert torch.allclose(boundary_bce(logits, mask, band, 0.0), bce_loss(logits, mask), rtol=1e-6)
    assert not torch.allclose(boundary_bce(logits, mask, band, 5.0), bce_loss(logits, mask), rtol=1e-3)


def test_boundary_bce_does_not_grow_with_its_weight() -> None:
    # the same BCE at every pixel comes out as itself, whatever lambda_B and the length of the contour
    mask = disc()
    for lambda_b in (0.0, 5.0, 500.0):
        value = boundary_bce(torch.zeros_like(mask), mask, boundary_band(mask, 3), lambda_b)
        assert float(value) == pytest.approx(0.6931472, rel=1e-6)


def test_boundary_bce_counts_a_mistake_in_the_band_more_than_one_outside() -> None:
    mask = disc()
    band = boundary_band(mask, 2)
    sure = 20 * (mask - 0.5)
    inside, outside = sure.clone(), sure.clone()
    inside[0, 0, 16, 7] *= -1  # x = 16 - 9: on the contour
    outside[0, 0, 16, 16] *= -1
    assert band[0, 0, 16, 7] == 1
    assert band[0, 0, 16, 16] == 0
    ratio = boundary_bce(inside, mask, band, 5.0) / boundary_bce(outside, mask, band, 5.0)
    assert float(ratio) == pytest.approx(6.0, rel=0.01)


def test_feature_distance_has_its_landmarks() -> None:
    teacher = torch.randn((3, 4, 5, 5), generator=torch.Generator().manual_seed(1))
    assert feature_distance(teacher, teacher).tolist() == [0, 0, 0]
    assert feature_distance(torch.zeros_like(teacher), teacher).tolist() == pytest.approx([1, 1, 1])
    assert feature_distance(3 * teacher, teacher).tolist() == pytest.approx([4, 4, 4])


def test_boundary_logits_count_in_the_band_alone() -> None:
    mask, teacher = disc().expand(2, -1, -1, -1), noise(3)
    band = boundary_band(mask, 2)
    elsewhere = teacher + 7 * (1 - band)
    assert boundary_logit_distance(elsewhere, teacher, band).tolist() == [0, 0]
    in_band = boundary_logit_distance(teacher + 7 * band, teacher, band)
    assert (in_band > 5).all()


def test_boundary_logits_of_the_teachers_mean_are_at_distance_one() -> None:
    mask, teacher = disc(), noise(3, 1)
    band = boundary_band(mask, 2)
    mean = (band * teacher).sum() / band.sum()
    assert float(boundary_logit_distance(mean.expand_as(teacher), teacher, band)) == pytest.approx(1.0, rel=1e-5)


def test_a_flat_teacher_and_an_empty_band_divide_by_nothing_small() -> None:
    band = boundary_band(disc(), 2)
    flat = torch.zeros_like(band)
    assert float(boundary_logit_distance(flat + 3, flat, band)) == pytest.approx(9.0)
    assert float(boundary_logit_distance(flat + 3, flat, flat)) == 0.0


def test_high_frequencies_have_their_landmarks() -> None:
    mask = disc()
    assert float(high_frequency_distance(40 * (mask - 0.5), mask, 1.5)) == pytest.approx(0, abs=1e-6)
    for constant in (-3.0, 0.0, 3.0):
        assert float(high_frequency_distance(torch.full_like(mask, constant), mask, 1.5)) == pytest.approx(1, rel=1e-4)


def test_a_softer_contour_costs_more_than_a_sharp_one() -> None:
    mask = disc()
    values = [float(high_frequency_distance(slope * (mask - 0.5), mask, 1.5)) for slope in (1.0, 4.0, 12.0)]
    assert values == sorted(values, reverse=True)


def test_high_frequencies_of_an_empty_mask_stay_finite() -> None:
    empty = torch.zeros(1, 1, 32, 32)
    value = high_frequency_distance(noise(0, 1), empty, 1.5)
    assert torch.isfinite(value).all()
    assert value > 0


def test_a_blur_keeps_constants_and_the_sum_of_what_lies_inside() -> None:
    assert torch.allclose(gaussian_blur(torch.ones(1, 1, 9, 9), 2.0), torch.ones(1, 1, 9, 9), atol=1e-6)
    point = torch.zeros(1, 1, 33, 33)
    point[0, 0, 16, 16] = 1
    blurred = gaussian_blur(point, 2.0)
    assert float(blurred.sum()) == pytest.approx(1, rel=1e-5)
    offsets = torch.arange(-16, 17).float()
    # cut off at three deviations, a Gaussian keeps 97 % of its second moment
    assert float((blurred.sum((0, 1, 2)) * offsets**2).sum()) == pytest.approx(4.0, rel=0.05)


def test_the_blur_is_given_on_the_256_grid() -> None:
    assert blur_sigma(256) == 3.0
    assert blur_sigma(1024) == 12.0
    assert blur_sigma(64) == 0.75


def test_every_term_has_gradients_that_are_finite_at_large_logits() -> None:
    mask = disc()
    band = boundary_band(mask, 2)
    logits = (60 * noise(5, 1)).requires_grad_()
    teacher = noise(6, 1)
    total = (
        boundary_bce(logits, mask, band, 5.0)
        + boundary_logit_distance(logits, teacher, band)
        + high_frequency_distance(logits, mask, 1.5)
    )
    (gradient,) = torch.autograd.grad(total.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
