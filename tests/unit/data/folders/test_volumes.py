"""Volumes as slices: the right plane, the right way up, with millimetres where the file says the unit."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.folders.layouts import detect
from medcore_prune.data.splits.split import split

SHAPE = (6, 8, 5)  # right, front, up
SIZES_MM = (0.5, 0.75, 3.0)


def volume(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[1:4, 2:5, 1:3] = 1
    found[4:6, 6:8, 2] = 7
    return found


def saved(path: Path, values: np.ndarray, sizes: Any = SIZES_MM, unit: str = "mm", flipped: bool = False) -> None:
    nibabel = pytest.importorskip("nibabel", reason="the extra nifti is not installed")
    affine = np.diag([*sizes, 1.0])
    if flipped:
        # stored from left to right and top to bottom reversed: the body is the same
        values = values[::-1, :, ::-1]
        affine[0] = [-sizes[0], 0, 0, sizes[0] * (SHAPE[0] - 1)]
        affine[2] = [0, 0, -sizes[2], sizes[2] * (SHAPE[2] - 1)]
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@pytest.mark.parametrize(
    ("images", "masks", "name", "flipped"),
    [
        ("images", "labels", "{}.nii.gz", False),
        ("images", "masks", "{}.nii", True),
        ("imagesTr", "labelsTr", "{}_0000.nii.gz", False),
    ],
)
def test_a_sample_is_a_label_in_an_axial_slice(
    tmp_path: Path, images: str, masks: str, name: str, flipped: bool
) -> None:
    for seed, case in enumerate(("a", "b")):
        saved(tmp_path / images / name.format(case), volume(seed), flipped=flipped)
        saved(tmp_path / masks / f"{case}.nii.gz", labels(), flipped=flipped)
    samples = folder(tmp_path)
    assert detect(tmp_path) == "nifti"
    assert list(samples.ids) == [f"{case}/{rest}" for case in "ab" for rest in ("0001", "0002#1", "0002#7")]
    assert {*samples.groups} == {"a", "b"}
    assert "a: left out 3 of 5 slices without a label" in samples.notes
    for place, (seed, height, label) in enumerate([(0, 1, 1), (0, 2, 1), (0, 2, 7), (1, 1, 1)]):
        sample = samples[place]
        assert (sample.spacing_mm, sample.mask.shape) == ((0.75, 0.5), (8, 6))
        plane = volume(seed)[:, :, height].astype(float)
        scaled = np.rint((plane - plane.min()) * (255 / (plane.max() - plane.min())))
        # rows from front to back, columns from left to right, pixel by pixel
        for row in range(8):
            for column in range(6):
                assert sample.image[row, column, 0] == scaled[column, 7 - row]
                assert sample.mask[row, column] == (labels()[column, 7 - row, height] == label)
    assert len({*samples.hashes()}) == 6
    assert len({*samples.image_hashes()}) == 4
    parts = split({"own": samples}, fractions=(0.5, 0.0, 0.5))
    assert {*parts.train["own"].groups}.isdisjoint(parts.test["own"].groups)


@pytest.mark.parametrize(
    ("layout", "shape", "spacing"), [("nifti_coronal", (5, 6), (3.0, 0.5)), ("nifti_sagittal", (5, 8), (3.0, 0.75))]
)
def test_other_axes_have_layouts_of_their_own(tmp_path: Path, layout: str, shape: Any, spacing: Any) -> None:
    saved(tmp_path / "images" / "a.nii", volume(0))
    saved(tmp_path / "labels" / "a.nii", labels())
    sample = folder(tmp_path, layout)[0]
    assert (sample.mask.shape, sample.spacing_mm) == (shape, spacing)
    # the head is up
    plane = labels()[:, 2] if layout == "nifti_coronal" else labels()[1]
    np.testing.assert_array_equal(sample.mask, (plane.T[::-1] == 1))


def test_millimetres_are_never_invented(tmp_path: Path) -> None:
    saved(tmp_path / "images" / "a.nii", volume(0), unit="unknown")
    saved(tmp_path / "labels" / "a.nii", labels(), unit="unknown")
    assert folder(tmp_path)[0].spacing_mm is None


def test_volumes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for case in "abc":
        saved(tmp_path / "images" / f"{case}.nii", volume(0))
        saved(tmp_path / "labels" / f"{case}.nii", labels())
    saved(tmp_path / "labels" / "b.nii", labels(), sizes=(0.5, 0.75, 2.0))
    (tmp_path / "images" / "c.nii").write_bytes(b"junk")
    saved(tmp_path / "images" / "d.nii", volume(0))
    with pytest.raises(DataError) as caught:
        folder(tmp_path)
    for said in (
        "b.nii are not of one grid",
        "c.nii: expected a NIfTI volume",
        r"image without mask (1): images/d.nii",
    ):
        assert said in str(caught.value)
    assert {*folder(tmp_path, skip_bad=True).groups} == {"a"}


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.nii.gz").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DataError, match=r"NIfTI needs nibabel: pip install 'medcore-prune\[nifti\]'"):
        folder(tmp_path)


def test_npz_of_medsam_lite(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "2D.npz", imgs=colour, gts=labels()[:, :, 2].T, boxes=np.zeros((2, 4)))
    stack, truth = np.moveaxis(volume(0), 2, 0), np.moveaxis(labels(), 2, 0)
    np.savez(tmp_path / "3D.npz", imgs=stack, gts=truth)
    samples = folder(tmp_path)
    assert detect(tmp_path) == "medsam_npz"
    assert list(samples.ids) == ["2D#1", "2D#7", "3D/0001", "3D/0002#1", "3D/0002#7"]
    assert list(samples.groups) == ["2D", "2D", "3D", "3D", "3D"]
    np.testing.assert_array_equal(samples[0].image, colour)
    np.testing.assert_array_equal(samples[1].mask, labels()[:, :, 2].T == 7)
    np.testing.assert_array_equal(samples[4].mask, truth[2] == 7)
    np.savez(tmp_path / "bad.npz", imgs=colour)
    with pytest.raises(DataError, match=r"bad\.npz: expected MedSAM's \.npz, .*holds imgs, expected imgs and gts"):
        folder(tmp_path)
    assert len(folder(tmp_path, skip_bad=True)) == 5


def test_a_volume_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    saved(tmp_path / "images" / "a.nii", volume(0))
    saved(tmp_path / "labels" / "a.nii", labels())
    samples = folder(tmp_path)
    before = samples[0].image
    saved(tmp_path / "images" / "a.nii", volume(5))
    assert not np.array_equal(samples[0].image, before)
    (tmp_path / "images" / "a.nii").unlink()
    with pytest.raises(DataError, match=r"a\.nii: no such file"):
        samples[0]
