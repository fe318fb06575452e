"""Annotations in COCO's JSON, with masks that can be told by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.coco import Region, region_of, run_lengths
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.folders.layouts import detect


def compressed(counts: list[int]) -> str:
    """Write run lengths as COCO's API does, bit by bit."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def runs_of(mask: np.ndarray) -> list[int]:
    """Count runs down the columns with a plain loop."""
    counts, current = [0], False
    for value in mask.ravel(order="F"):
        if value != current:
            counts.append(0)
            current = bool(value)
        counts[-1] += 1
    return counts


def test_known_run_lengths() -> None:
    # a 4 x 4 square in 8 x 10 pixels, counted by hand
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:7] = True
    assert runs_of(mask) == [26, 4, 4, 4, 4, 4, 4, 4, 26]
    # as COCO's own API writes it
    assert compressed(runs_of(mask)) == "j04400000f0"
    assert run_lengths("j04400000f0") == runs_of(mask)
    for text in ("\x01", "o"):
        with pytest.raises(ValueError, match="run lengths"):
            run_lengths(text)


def test_run_lengths_of_any_mask() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 40)))) < rng.random()
        shape = mask.shape
        for counts in (runs_of(mask), compressed(runs_of(mask))):
            np.testing.assert_array_equal(region_of({"size": [*shape], "counts": counts}, shape).mask(), mask)


def test_polygons_cover_the_pixels_whose_centres_they_hold() -> None:
    square = Region((8, 10), ((3.0, 2.0, 7.0, 2.0, 7.0, 6.0, 3.0, 6.0),)).mask()
    wanted = np.zeros((8, 10), bool)
    wanted[2:6, 3:7] = True
    np.testing.assert_array_equal(square, wanted)
    # two polygons are one object, and what lies outside of the image is nothing
    both = Region((8, 10), ((0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0), (8.0, 6.0, 20.0, 6.0, 20.0, 20.0, 8.0, 20.0)))
    wanted = np.zeros((8, 10), bool)
    wanted[:2, :2], wanted[6:, 8:] = True, True
    np.testing.assert_array_equal(both.mask(), wanted)


@pytest.fixture
def coco(tmp_path: Path, save: Any, picture: Any) -> Any:
    """Return a function that writes three images and annotations of some; each annotation is updated by `changed`."""

    def write(at: str = "annotations.json", images: str = "images", **changed: Any) -> Path:
        for number in range(3):
            save(tmp_path / images / f"i{number}.png", picture(number))
        square = [3, 2, 7, 2, 7, 6, 3, 6]
        runs = {"size": [8, 10], "counts": [26, 4, 4, 4, 4, 4, 4, 4, 26]}
        annotations = [
            {"id": 1, "image_id": 10, "segmentation": [square], "iscrowd": 0},
            {"id": 2, "image_id": 10, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
            {"id": 3, "image_id": 11, "segmentation": runs, **changed},
            {"id": 4, "image_id": 11, "segmentation": runs, "iscrowd": 1},
            {"id": 5, "image_id": 11, "bbox": [0, 0, 2, 2]},
        ]
        listed = [{"id": 10 + n, "file_name": f"i{n}.png", "height": 8, "width": 10} for n in range(3)]
        (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "polyp"}]})
        (tmp_path / at).write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("at", "images", "role"),
    [
        ("annotations.json", "images", None),
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_val.json", "images/val", "validation"),
        ("test/_annotations.coco.json", "test", "test"),
    ],
)
def test_an_annotation_is_a_sample(coco: Any, at: str, images: str, role: str | None) -> None:
    root = coco(at, images)
    samples = folder(root)
    assert detect(root) == "coco"
    assert list(samples.ids) == ["i0#1", "i0#2", "i1"]
    assert list(samples.groups) == ["i0", "i0", "i1"]
    assert samples.roles == [role] * 3
    assert [sample.box for sample in samples] == [(3, 2, 6, 5), (0, 0, 1, 1), (3, 2, 6, 5)]
    np.testing.assert_array_equal(samples[0].mask, samples[2].mask)
    said = " ".join(samples.notes)
    assert "left out 1 annotations of crowds" in said
    assert "left out 1 annotations without a segmentation" in said
    assert "left out 1 images without annotations: i2.png" in said
    assert len({*samples.hashes()}) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"segmentation": [[1, 2, 3, 4]]},
            r"annotation that is none \(1\): i1 in annotations.json: a polygon",
        ),
        ({"segmentation": {"size": [8, 10], "counts": [80, 1]}}, "run lengths of 81 pixels"),
        ({"segmentation": {"size": [8, 9], "counts": [72]}}, "size 8 x 9, expected"),
        ({"segmentation": {"counts": [80]}}, "no 'size'"),
        ({"segmentation": {"size": [8, 10], "counts": [80]}}, r"empty mask \(1\): i1"),
        ({"image_id": 99}, r"annotation of no image in annotations.json \(1\): 99"),
    ],
)
def test_annotations_that_are_wrong_are_named(coco: Any, changed: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        folder(coco(**changed))


def test_files_and_sizes_must_be_those_of_the_table(coco: Any, save: Any, picture: Any) -> None:
    root = coco()
    save(root / "images" / "i1.png", picture(1)[:, :-1])
    with pytest.raises(DataError, match=r"sizes differ \(1\): images/i1\.png 9 x 8, mask 10 x 8"):
        folder(root)
    assert list(folder(root, skip_bad=True).ids) == ["i0#1", "i0#2"]
    (root / "images" / "i1.png").unlink()
    with pytest.raises(DataError, match=r"listed in annotations but not there \(1\): i1\.png"):
        folder(root)
    text = (root / "annotations.json").read_text()
    (root / "annotations.json").write_text(text.replace("i0.png", "../i0.png"))
    with pytest.raises(DataError, match=r"not there \(2\): \.\./i0\.png"):
        folder(root)
    (root / "annotations.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"expected COCO's images and annotations, .*no 'annotations'"):
        folder(root)
