"""Which samples show one image, in folders and in memory, and how their images are read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_samples import Fixed, TinySamples, several_boxes

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.data.frame import Frame
from medcore_prune.data.reading import by_image, in_batches, read_images


def labelled(root: Path) -> mp.data.FolderSet:
    """Three images with label maps of 2, 1 and 3 objects."""
    rng = np.random.default_rng(0)
    for part in ("images", "instances"):
        (root / part).mkdir(parents=True)
    for number, objects in enumerate((2, 1, 3)):
        labels = np.zeros((40, 60), np.uint8)
        for label in range(objects):
            labels[5:25, 5 + 18 * label : 20 + 18 * label] = label + 1
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "instances" / f"{number}.png")
    return mp.data.folder(root)


def test_objects_of_one_file_are_of_one_image(tmp_path: Path) -> None:
    samples = labelled(tmp_path)
    assert by_image(samples) == [[0, 1], [2], [3, 4, 5]]
    part = mp.data.Subset(samples, (5, 2, 0, 3), "part")
    assert by_image(part) == [[0, 3], [1], [2]]
    read = read_images(samples, by_image(samples), Frame(48))
    assert (read.images.shape, read.boxes.shape, read.owner) == ((3, 3, 48, 48), (6, 4), (0, 0, 1, 2, 2, 2))
    assert [sample.name for sample in read.samples] == list(samples.ids)


def test_arrays_are_known_by_their_pixels_and_others_by_reading() -> None:
    assert by_image(several_boxes(2, 2, interleaved=True)) == [[0, 2], [1, 3]]
    own = Fixed(list(several_boxes(2, 2)))
    assert by_image(own) == [[0], [1], [2], [3]]
    assert by_image(own, read=True) == [[0, 1], [2, 3]]
    assert by_image(mp.data.Subset(own, (3, 1, 2), "part"), read=True) == [[0, 2], [1]]


def test_batches_are_of_images() -> None:
    images = [[0], [1], [2, 3], [4, 5], [6, 7]]
    assert list(in_batches(images, 2)) == [[[0], [1]], [[2, 3], [4, 5]], [[6, 7]]]
    assert list(in_batches(images, 3, alike=True)) == [[[0], [1]], [[2, 3], [4, 5], [6, 7]]]


def test_samples_that_no_longer_show_one_image_are_refused() -> None:
    samples = TinySamples("a", 2)
    with pytest.raises(DataError, match="a/001: its image is another one than a moment ago"):
        read_images(samples, [[0, 1]], Frame(48))
