"""Phantom sets: repeatable, well formed, and with contours that a box does not give away."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from medcore_prune._support.errors import DataError
from medcore_prune.data import phantoms

POLYPS = [name for name in phantoms.available() if "polyp" in name]
MEDICAL = [name for name in phantoms.available() if name != "phantom_objects"]

# item 1 of seed 0: pixels in the mask, mean grey of the four quarters (row by row)
PINNED = {
    "phantom_polyp_a": (3011, [81.1, 62.0, 63.8, 89.3]),
    "phantom_polyp_b": (1228, [39.5, 41.5, 42.4, 50.1]),
    "phantom_polyp_c": (1412, [98.1, 118.5, 99.3, 119.9]),
    "phantom_ultrasound": (1708, [127.0, 114.8, 130.8, 157.8]),
    "phantom_skin": (1412, [134.2, 140.0, 147.5, 141.6]),
    "phantom_objects": (639, [130.4, 137.2, 120.0, 144.2]),
}


def test_the_six_sets_are_there():
    assert phantoms.available() == [
        "phantom_polyp_a",
        "phantom_polyp_b",
        "phantom_polyp_c",
        "phantom_ultrasound",
        "phantom_skin",
        "phantom_objects",
    ]


@pytest.mark.parametrize("name", phantoms.available())
def test_an_item_depends_on_name_seed_and_index_alone(name):
    long, short = phantoms.make(name, seed=3, count=5), phantoms.make(name, seed=3, count=3)
    backwards = [long[i] for i in (4, 2, 1)]
    assert np.array_equal(backwards[1].image, short[2].image)
    assert np.array_equal(backwards[1].mask, short[2].mask)
    assert long.hashes()[:3] == short.hashes()
    assert len({*long.hashes(), *phantoms.make(name, seed=4, count=5).hashes()}) == 10


@pytest.mark.parametrize("name", phantoms.available())
def test_the_pictures_are_the_frozen_ones(name):
    """Not byte for byte, which another processor's rounding may miss, but close enough to notice any redesign."""
    sample = phantoms.make(name, count=2)[1]
    pixels, greys = PINNED[name]
    assert abs(int(sample.mask.sum()) - pixels) <= 2
    assert sample.image.reshape(2, 64, 2, 64, 3).mean(axis=(1, 3, 4)).ravel() == pytest.approx(greys, abs=0.2)


@pytest.mark.parametrize("name", phantoms.available())
def test_samples_are_well_formed(name):
    samples = phantoms.make(name, count=6, size=64)
    assert len(samples) == 6 == len(set(samples.ids)) == len(set(samples.groups))
    for sample, identity in zip(samples, samples.ids, strict=True):
        assert (sample.dataset, sample.name) == (name, identity)
        assert sample.image.shape == (64, 64, 3)
        assert sample.image.dtype == np.uint8
        assert sample.mask.shape == (64, 64)
        assert sample.mask.dtype == bool
        rows, columns = np.nonzero(sample.mask)
        assert sample.box == (columns.min(), rows.min(), columns.max(), rows.max())


@pytest.mark.parametrize("name", MEDICAL)
def test_a_medical_scene_shows_one_object_in_one_piece(name):
    for index in range(5):
        _, masks = phantoms.scene(name, 0, index)
        assert len(masks) == 1
        assert ndimage.label(masks[0])[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(masks[0]), masks[0])
        assert 0.005 <= masks[0].mean() < 0.8


def test_an_object_scene_shows_three_to_six_objects_that_do_not_overlap():
    for index in range(8):
        _, masks = phantoms.scene("phantom_objects", 0, index)
        assert 3 <= len(masks) <= 6
        assert masks.sum(axis=0).max() == 1
        assert all(mask.mean() >= 0.008 for mask in masks)


def test_the_object_set_picks_one_of_the_scene_and_not_always_the_first():
    samples = phantoms.make("phantom_objects", count=8)
    picks = []
    for index, sample in enumerate(samples):
        _, masks = phantoms.scene("phantom_objects", 0, index)
        picks += [k for k, mask in enumerate(masks) if np.array_equal(mask, sample.mask)]
    assert len(picks) == 8
    assert len(set(picks)) > 1


@pytest.mark.parametrize("name", phantoms.available())
def test_a_scene_is_the_same_picture_at_another_size(name):
    _, small = phantoms.scene(name, 0, 1, size=96)
    _, large = phantoms.scene(name, 0, 1, size=192)
    shared = large[:, ::2, ::2][: len(small)] & small[: len(large)]
    assert len(small) == len(large)
    assert 2 * shared.sum() / (small.sum() + large[:, ::2, ::2].sum()) > 0.9


@pytest.mark.parametrize("name", MEDICAL)
def test_the_object_differs_from_what_surrounds_it_along_most_of_its_contour(name):
    """Inside and outside, within 6 px of a contour pixel, differ beyond the noise in most places."""
    shares = []
    for index in range(6):
        image, masks = phantoms.scene(name, 0, index)
        mask = masks[0].astype(float)
        grey = image.mean(axis=2)
        weight = ndimage.uniform_filter(mask, 9)
        inner = ndimage.uniform_filter(grey * mask, 9) / np.maximum(weight, 1e-6)
        outer = ndimage.uniform_filter(grey * (1 - mask), 9) / np.maximum(1 - weight, 1e-6)
        contour = masks[0] & ~ndimage.binary_erosion(masks[0])
        shares.append(np.mean(np.abs(inner - outer)[contour] > 4))
    assert np.mean(shares) > 0.6


@pytest.mark.parametrize("name", POLYPS)
def test_the_ellipse_in_the_box_is_no_good_answer(name):
    scores = np.array([_ellipse_scores(sample) for sample in phantoms.make(name, count=40)])
    assert scores[:, 0].mean() <= 0.85
    assert scores[:, 1].mean() <= 0.40


def test_the_polyp_sets_differ_from_one_another():
    """Mean colour over 12 images: some channel differs by more than 8 of 255 between any two sets."""
    means = [np.mean([s.image.mean(axis=(0, 1)) for s in phantoms.make(name, count=12)], axis=0) for name in POLYPS]
    assert all(np.abs(a - b).max() > 8 for a, b in itertools.combinations(means, 2))


def test_bad_requests_are_refused():
    with pytest.raises(DataError, match="did you mean phantom_polyp_a"):
        phantoms.make("phantom_polip_a")
    with pytest.raises(DataError, match="count of at least 1"):
        phantoms.make("phantom_skin", count=0)
    with pytest.raises(DataError, match="at least 32 px"):
        phantoms.scene("phantom_skin", 0, 0, size=8)
    with pytest.raises(DataError, match="index of at least 0"):
        phantoms.scene("phantom_skin", 0, -1)
    with pytest.raises(IndexError, match="from 0 to 1"):
        phantoms.make("phantom_skin", count=2)[2]


def _ellipse_scores(sample):
    """Return Dice and boundary F1 (2 px) of the ellipse in the mask's box, on a grid of 256."""
    mask = (
        ndimage.zoom(sample.mask.astype(float), 256 / len(sample.mask), order=1, grid_mode=True, mode="nearest") > 0.5
    )
    rows, columns = np.nonzero(mask)
    y0, y1, x0, x1 = rows.min(), rows.max(), columns.min(), columns.max()
    y, x = np.mgrid[:256, :256]
    ellipse = ((2 * x - x0 - x1) / (x1 - x0 + 1)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0 + 1)) ** 2 <= 1
    dice = 2 * (ellipse & mask).sum() / (ellipse.sum() + mask.sum())
    contours = [m & ~ndimage.binary_erosion(m) for m in (ellipse, mask)]
    apart = [ndimage.distance_transform_edt(~c) for c in contours]
    precision, recall = (np.mean(apart[1][contours[0]] <= 2), np.mean(apart[0][contours[1]] <= 2))
    return dice, 2 * precision * recall / max(precision + recall, 1e-9)
