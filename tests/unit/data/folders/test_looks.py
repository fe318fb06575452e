"""Masks turned round, and pictures that lie on their side."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcore_prune._support.errors import DataError, DataWarning
from medcore_prune.data.folders.folder import folder

DISTANCE = np.hypot(*np.mgrid[-50:70, -60:100])


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8)


def write(root: Path, save, masks: list[np.ndarray], orientation: int = 1, both: bool = False) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number, mask in enumerate(masks):
        save(root / "images" / f"n{number}x.png", noise(number), exif=exif)
        save(root / "masks" / f"n{number}x.png", mask, **({"exif": exif} if both else {}))
    return root


def disc(inside: int, outside: int) -> np.ndarray:
    return np.where(DISTANCE < 20, inside, outside).astype(np.uint8)


def test_masks_that_are_dark_on_white_are_noted(tmp_path: Path, save) -> None:
    with pytest.warns(DataWarning, match=r"in 3 of 3 masks what is not black lies all around .*invert the masks"):
        found = folder(write(tmp_path / "a", save, [disc(0, 255)] * 3))
    assert "invert the masks" in found.notes[0]
    with pytest.warns(DataWarning, match=r"in 1 of 3 masks what is not black lies all around .*\(n2x\)"):
        folder(write(tmp_path / "b", save, [disc(255, 0), disc(255, 0), disc(0, 255)]))


def test_a_large_object_that_leaves_the_picture_is_one(tmp_path: Path, save) -> None:
    large = np.where(DISTANCE < 95, 255, 0).astype(np.uint8)
    assert large.mean() > 128
    touching = disc(0, 255)
    touching[:30, :40] = 0
    assert not folder(write(tmp_path, save, [large, large, touching])).notes


def test_an_object_over_the_whole_image_is_one(tmp_path: Path, save) -> None:
    assert not folder(write(tmp_path, save, [np.full((120, 160), 255, np.uint8)] * 3)).notes


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_pictures_that_only_their_tag_turns_are_noted(tmp_path: Path, save, orientation: int) -> None:
    with pytest.warns(DataWarning, match=rf"2 images are turned upright by the EXIF orientation \(n0x: {orientation}"):
        folder(write(tmp_path / "a", save, [disc(255, 0)] * 2, orientation))
    # masks that carry the same tag are turned alike
    assert not folder(write(tmp_path / "b", save, [disc(255, 0)] * 2, orientation, both=True)).notes


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_on_the_pixels_as_stored_are_refused_with_the_cause(tmp_path: Path, save, orientation: int) -> None:
    with pytest.raises(DataError, match=rf"the image is turned by its EXIF orientation {orientation}, the mask fits"):
        folder(write(tmp_path, save, [disc(255, 0)], orientation))
    (tmp_path / "masks" / "n0x.png").unlink()
    save(tmp_path / "masks" / "n0x.png", disc(255, 0).T.copy())
    with pytest.warns(DataWarning, match="masks are taken as drawn on the upright picture"):
        assert folder(tmp_path)[0].mask.shape == (160, 120)
