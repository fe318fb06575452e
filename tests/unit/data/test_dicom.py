"""DICOM files that are written here, as a viewer would show them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.data.images import image_shape, image_spacing

VALUES = np.arange(80, dtype=np.uint16).reshape(8, 10) * 40


def written(path: Path, values: np.ndarray = VALUES, **tags: Any) -> Path:
    pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 3 if values.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def gray(path: Path) -> np.ndarray:
    return mp.data.read_image(path)[:, :, 0]


def test_without_a_window_the_values_are_scaled_by_their_range(tmp_path: Path) -> None:
    wanted = np.rint(VALUES * (255 / VALUES.max()))
    np.testing.assert_array_equal(gray(written(tmp_path / "a.dcm")), wanted)
    # a rescale that keeps the order changes nothing
    np.testing.assert_array_equal(gray(written(tmp_path / "b.dcm", RescaleSlope=2, RescaleIntercept=-1000)), wanted)
    eight = (VALUES // 40).astype(np.uint8)
    np.testing.assert_array_equal(gray(written(tmp_path / "c.dcm", eight)), eight)
    colour = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mp.data.read_image(written(tmp_path / "d.dcm", colour)), colour)


def test_a_window_is_that_of_the_rescaled_values(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    found = gray(written(tmp_path / "a.dcm", **tags))
    for (row, column), stored in np.ndenumerate(VALUES):
        value = float(stored) - 1024
        # DICOM PS3.3 C.11.2.1.2, as it is written there
        if value <= 40 - 0.5 - (400 - 1) / 2:
            wanted = 0.0
        elif value > 40 - 0.5 + (400 - 1) / 2:
            wanted = 255.0
        else:
            wanted = ((value - (40 - 0.5)) / (400 - 1) + 0.5) * 255
        assert abs(float(found[row, column]) - wanted) <= 0.5
    first = gray(written(tmp_path / "b.dcm", **{**tags, "WindowCenter": [40, 300], "WindowWidth": [400, 1500]}))
    np.testing.assert_array_equal(first, found)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1600, "WindowWidth": 3200}])
def test_monochrome_1_is_turned_round(tmp_path: Path, window: dict[str, int]) -> None:
    plain = gray(written(tmp_path / "a.dcm", **window)).astype(int)
    turned = gray(written(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **window)).astype(int)
    assert np.abs(turned - (255 - plain)).max() <= 1
    assert (plain[0, 0], turned[0, 0]) == (0, 255)


def test_masks_are_what_is_stored_and_spacing_is_that_of_the_patient(tmp_path: Path) -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, 3:6] = 1
    np.testing.assert_array_equal(mp.data.read_mask(written(tmp_path / "m.dcm", mask)), mask > 0)
    place = written(tmp_path / "a.dcm", PixelSpacing=[0.5, 0.25])
    assert (image_shape(place), image_spacing(place)) == ((8, 10), (0.5, 0.25))
    assert image_spacing(written(tmp_path / "b.dcm", ImagerPixelSpacing=[0.5, 0.25])) is None


def test_a_folder_of_dicom_and_its_millimetres(tmp_path: Path) -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, 3:6] = 1
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    written(tmp_path / "images" / "a.dcm", PixelSpacing=[0.5, 0.25])
    written(tmp_path / "images" / "b.dcm")
    for name in "ab":
        written(tmp_path / "masks" / f"{name}.dcm", mask)
    samples = mp.data.folder(tmp_path)
    assert [sample.spacing_mm for sample in samples] == [(0.5, 0.25), None]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"NumberOfFrames": 2, "PixelData": VALUES.tobytes() * 2}, "holds 2 frames"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "a window of width 0"),
    ],
)
def test_what_is_no_single_image_is_refused(tmp_path: Path, tags: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"a\.dcm: expected an image, could not read it \({said}"):
        mp.data.read_image(written(tmp_path / "a.dcm", **tags))


def test_without_the_extra_one_line_names_it(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for kind in ("images", "masks"):
        (pairs / kind / "a.png").rename(pairs / kind / "a.dcm")
    said = r"images/a\.dcm: expected an image, .*DICOM needs pydicom: pip install 'medcore-prune\[dicom\]'"
    with pytest.raises(DataError, match=said):
        mp.data.folder(pairs)
