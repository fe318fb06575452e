"""Photographs in the place of masks, masks in that of images, and gray areas that can be read in two ways."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medcore_prune as mp
from medcore_prune._support.errors import DataError, DataWarning
from medcore_prune.data import phantoms
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.images import read_labels, read_mask
from medcore_prune.data.mask_checks import no_photograph, photograph
from medcore_prune.data.samples import arrays

SHARES = np.hypot(*np.mgrid[-60:60, -80:80])
DISC = np.where(SHARES < 30, 255, 0).astype(np.uint8)
SETS = (
    "kvasir_seg",
    "kvasir_seg_more",
    "cvc_clinicdb",
    "cvc_clinicdb_more",
    "fuseg_crop",
    "dsb2018_nuclei",
    "ph2_skin",
)
SETS += ("isic2016_skin", "busi_ultrasound", "natural")


def as_jpeg(values: np.ndarray, quality: int = 75) -> np.ndarray:
    place = BytesIO()
    Image.fromarray(values).save(place, "JPEG", quality=quality)
    return np.asarray(Image.open(place))


def write(root: Path, save, images: list[np.ndarray], masks: list[np.ndarray], suffix: str = ".png") -> Path:
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(root / "images" / f"c{number}{suffix}", image)
        save(root / "masks" / f"c{number}{suffix}", mask)
    return root


@pytest.mark.parametrize("kind", ["phantom_polyp_a", "phantom_ultrasound", "phantom_skin"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
def test_folders_that_are_exchanged_are_refused(tmp_path: Path, save, kind: str, suffix: str) -> None:
    drawn = phantoms.make(kind, seed=2, count=4)
    images, masks = [each.image for each in drawn], [each.mask.astype(np.uint8) * 255 for each in drawn]
    folder(write(tmp_path / "right", save, images, masks, suffix))
    with pytest.raises(DataError, match=r"images and masks exchanged"):
        folder(write(tmp_path / "exchanged", save, masks, images, suffix))
    with pytest.raises(DataError, match=r"looks like a photograph|its own image"):
        folder(write(tmp_path / "photos", save, images, images, suffix))
    # names can be looked at, but no work is done on them
    with pytest.warns(DataWarning, match="images look like masks, not like images"):
        found = folder(write(tmp_path / "masks", save, masks, masks, suffix))
    for work in (list, mp.data.FolderSet.hashes):
        with pytest.raises(DataError, match="looks like a mask"):
            work(found)


def test_a_single_mask_among_images_is_refused_when_it_is_read(tmp_path: Path, save) -> None:
    drawn = phantoms.make("phantom_polyp_a", seed=2, count=40)
    images, masks = [each.image for each in drawn], [each.mask.astype(np.uint8) * 255 for each in drawn]
    images[19] = np.roll(masks[19], 3, axis=0)
    found = folder(write(tmp_path, save, images, masks))
    name = found.entries[next(i for i, entry in enumerate(found.entries) if entry.name == "c19")].image.name
    with pytest.raises(DataError, match=rf"{name}: looks like a mask, not like an image \(the values 0 and 255"):
        list(found)
    with pytest.raises(DataError, match=rf"{name}: looks like a mask"):
        found.hashes()


def test_arrays_are_looked_at_as_files_are() -> None:
    drawn = phantoms.make("phantom_ultrasound", seed=2, count=2)
    images, masks = [each.image for each in drawn], [each.mask for each in drawn]
    arrays("set", images, masks)
    with pytest.raises(DataError, match="000000: looks like a photograph"):
        arrays("set", images, [image[:, :, 0] for image in images])
    with pytest.raises(DataError, match="000000: looks like a mask"):
        arrays("set", [mask.astype(np.uint8) for mask in masks], masks)


def test_a_photograph_is_no_label_map(tmp_path: Path, save) -> None:
    with pytest.raises(DataError, match="looks like a photograph"):
        read_labels(save(tmp_path / "a.npy", phantoms.make("phantom_ultrasound", seed=2, count=1)[0].image[:, :, 0]))


@pytest.mark.parametrize("cell", [3, 5, 12])
def test_dense_label_maps_are_no_photographs(cell: int) -> None:
    rows, columns = np.mgrid[:200, :240] // cell
    labels = np.random.default_rng(0).permutation((rows.max() + 1) * (columns.max() + 1))[
        rows * (columns.max() + 1) + columns
    ]
    assert not photograph(labels.astype(np.uint16))
    assert not photograph((labels % 250 + 1).astype(np.uint8))


@pytest.mark.parametrize("how", ["BILINEAR", "BICUBIC", "LANCZOS", "BOX", "HAMMING"])
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5, 3, 8])
def test_soft_edges_are_no_photographs(how: str, factor: float) -> None:
    for radius in (3, 12, 50):
        mask = Image.fromarray(np.where(radius > SHARES, 255, 0).astype(np.uint8))
        size = (int(160 * factor), int(120 * factor))
        for turned in (mask, mask.rotate(17, Image.Resampling.BICUBIC)):
            soft = np.asarray(turned.resize(size, Image.Resampling[how]))
            assert not photograph(soft)
            assert not photograph(as_jpeg(soft, 30))


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_masks_are_read_and_gray_ones_are_refused(tmp_path: Path, save, quality: int) -> None:
    def read(values: np.ndarray) -> np.ndarray:
        return read_mask(save(tmp_path / "a.jpg", values, quality=quality))

    assert (read(DISC) != (DISC > 0)).mean() < 0.02
    assert (read(np.where(DISC, 200, 0).astype(np.uint8)) != (DISC > 0)).mean() < 0.02
    inner = np.where(SHARES < 15, 255, 0)
    for values in (np.where(DISC, 100, 0), np.where(DISC, 128, 0), np.select([inner > 0, DISC > 0], [255, 128], 0)):
        with pytest.raises(DataError, match=r"a\.jpg: areas of .* beside what is darker.*JPEG keeps no labels"):
            read(values.astype(np.uint8))
    red_on_white = np.where(DISC[:, :, None] > 0, (255, 0, 0), (255, 255, 255)).astype(np.uint8)
    with pytest.raises(DataError, match="several colours and nothing is dark"):
        read(red_on_white)


def test_several_bright_areas_are_refused_with_both_readings(tmp_path: Path, save) -> None:
    fundus = np.select([SHARES < 15, SHARES < 30], [0, 128], 255).astype(np.uint8)
    with pytest.raises(
        DataError, match=r"areas of 128, 255 .*all of these may be the object, or 255 may be the backgr"
    ):
        read_mask(save(tmp_path / "a.png", fundus))
    # many labels of 8 bits, half of which a cut would lose
    labels = (np.mgrid[:120, :160][1] // 4 * 6).astype(np.uint8)
    with pytest.raises(DataError, match="beside what is darker"):
        read_mask(save(tmp_path / "b.png", labels))
    # near values are one
    near = np.where(DISC > 0, 250, 0).astype(np.uint8)
    near[50:60, 70:90] = 255
    np.testing.assert_array_equal(read_mask(save(tmp_path / "c.png", near)), DISC > 0)


@pytest.mark.parametrize(
    "image",
    [
        np.full((40, 40), 90, np.uint8),
        np.where(SHARES < 30, 200, 90).astype(np.uint8) + (SHARES % 4).astype(np.uint8),
        np.dstack([DISC, DISC // 2, DISC // 3]),
    ],
)
def test_flat_and_plain_images_are_images(image: np.ndarray) -> None:
    assert not no_photograph(image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2))


@pytest.mark.parametrize("name", SETS)
def test_real_images_and_masks_raise_no_alarm(real_data: Path, name: str, recwarn) -> None:
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name} among the real images")
    found = folder(real_data / name, layout="plain")
    assert not [note for note in found.notes if "numbered images" not in note]
    assert not recwarn.list
    places = range(0, len(found), max(1, len(found) // 30))
    for place in places:
        image, mask = found[place].image, found[place].mask
        assert not no_photograph(as_jpeg(image))
        assert not photograph(as_jpeg(mask.astype(np.uint8) * 255, 40))
