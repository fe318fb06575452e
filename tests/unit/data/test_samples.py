from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError


def image(side: int = 40) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 255, (side, side + 8, 3), dtype=np.uint8)


def mask(side: int = 40) -> np.ndarray:
    made = np.zeros((side, side + 8), bool)
    made[10:30, 12:34] = True
    return made


def test_samples_are_what_was_given() -> None:
    images = mp.data.arrays(
        "mine", [image(), image(50)[:, :, 0]], [mask(), 255 * mask(50).astype(int)], groups=["p1", "p2"]
    )
    assert (len(images), images.ids, images.groups) == (2, ["000000", "000001"], ["p1", "p2"])
    first, second = images
    assert first.dataset == "mine"
    assert np.array_equal(first.image, image())
    assert first.box == second.box == (12.0, 10.0, 33.0, 29.0)
    assert np.array_equal(second.mask, mask(50))
    assert np.array_equal(second.image, np.stack([image(50)[:, :, 0]] * 3, axis=-1))


def test_hashes_tell_images_and_boxes_apart_and_are_those_of_a_folder(tmp_path: Any) -> None:
    from PIL import Image

    for folder, array in (("images", image()), ("masks", 255 * mask().astype(np.uint8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    on_disk = mp.data.folder(tmp_path)
    plain = mp.data.arrays("a", [image()], [mask()])
    boxed = mp.data.arrays("a", [image()], [mask()], boxes=[(1, 2, 30, 31)])
    assert plain.hashes() == on_disk.hashes()
    assert boxed.hashes() != plain.hashes()
    assert boxed[0].box == (1.0, 2.0, 30.0, 31.0)


def test_they_serve_from_split_to_evaluation() -> None:
    images = mp.data.arrays("mine", [image(side) for side in range(40, 60)], [mask(s) for s in range(40, 60)])
    split = mp.data.split(images)
    assert len(split.train["mine"]) + len(split.validation["mine"]) + len(split.test["mine"]) == 20
    few = mp.evaluate(tiny_sam(), split, progress=False)
    whole = mp.evaluate(tiny_sam(), images, progress=False)
    assert (set(few["dataset"]), len(whole)) == ({"mine"}, 20)


GOOD: dict[str, Any] = {"images": [image()], "masks": [mask()]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": []}, "0 images, 1 masks: expected one each"),
        ({"images": [], "masks": []}, "no image"),
        ({"images": [image() / 255]}, "000000: expected an image of uint8 values, got float64"),
        ({"images": [image().transpose(2, 0, 1)]}, r"expected an image of shape .* got \(3, 40, 48\)"),
        ({"masks": [mask(50)]}, r"expected a mask of the image's shape \(40, 48\), got \(50, 58\)"),
        ({"masks": [mask() & False]}, "000000: an empty mask has no box"),
        ({"masks": [np.where(mask(), np.nan, 0)]}, "not finite"),
        ({"boxes": [(1, 2, 3)]}, "four numbers"),
        ({"boxes": [(9, 2, 3, 4)]}, "x0 <= x1"),
        ({"boxes": [(90, 2, 93, 4)]}, "outside of the image"),
        ({"images": [image()] * 2, "masks": [mask()] * 2, "ids": ["a", "a"]}, "a: a name for the second time"),
        ({"images": [image() / 255] * 9, "masks": [mask()] * 9}, "and 4 more"),
    ],
)
def test_mistakes_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mp.data.arrays("mine", **{**GOOD, **changed})


@pytest.mark.parametrize(
    "takes",
    [
        lambda data: mp.calibrate(tiny_sam(0), data=data, samples=1, progress=False),
        lambda data: mp.correct(tiny_sam(0), tiny_sam(0), data, progress=False),
        lambda data: mp.recover(tiny_sam(0), tiny_sam(0), data, progress=False),
        lambda data: mp.evaluate(tiny_sam(0), data, progress=False),
        lambda data: mp.cascade(tiny_sam(0), "h50_m50", "magnitude", data=data, progress=False),
        lambda data: mp.automatic_plan(tiny_sam(0), "params=20%", "magnitude", data=data, progress=False),
        lambda data: mp.plan(tiny_sam(0), "h50_m50", "magnitude", data=data),
    ],
)
def test_what_is_no_data_set_is_named(takes: Callable[[Any], object]) -> None:
    with pytest.raises(DataError, match=r"data set 'a': expected images from mp\.data\.folder.*; got list"):
        takes({"a": [image()]})
    with pytest.raises(DataError, match=r"needs images: expected a split, .*; got list"):
        takes([image()])
