"""`predict --format dicom-seg`: read back, the masks are those of the predictor and refer to the image."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.commands.cli import cli
from medcore_prune.data import dicom_seg
from medcore_prune.models.fingerprint import model_hash

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
BOXES = [(10, 20, 90, 100), (30, 5, 60, 50)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and slices of CT and MR that come with pydicom."""
    monkeypatch.chdir(tmp_path)
    mp.save(tiny_sam(), "model.safetensors")
    for kind in ("CT", "MR"):
        found = pydicom.data.get_testdata_file(f"{kind}_small.dcm")
        shutil.copyfile(found, tmp_path / f"{kind}.dcm")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["predict", "model.safetensors", *words, "--format", "dicom-seg", "--out", "out"])


def boxed(*boxes: tuple[int, ...]) -> list[str]:
    return [word for box in boxes for word in ("--box", ",".join(map(str, box)))]


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_a_segmentation_refers_to_its_image_and_holds_its_masks(here: Path, kind: str) -> None:
    boxes = [tuple(min(corner, 60) for corner in box) for box in BOXES] if kind == "MR" else BOXES
    result = run(f"{kind}.dcm", *boxed(*boxes))
    assert result.exit_code == 0, (result.output, result.exception)
    source, made = pydicom.dcmread(f"{kind}.dcm"), highdicom.seg.segread(f"out/{kind}_seg.dcm")
    assert made.SOPClassUID == pydicom.uid.SegmentationStorage
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert made[name].value == source[name].value
    assert (made.Rows, made.Columns) == (source.Rows, source.Columns)
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.get_source_image_uids() == [(source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)]
    frames = made.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)
    model = mp.load("model.safetensors")
    predictor = mp.Predictor(model).set_image(mp.data.read_image(f"{kind}.dcm"))
    assert frames.shape == (1, source.Rows, source.Columns, 2)
    for place, box in enumerate(boxes):
        expected = predictor.predict(box)
        np.testing.assert_array_equal(frames[0, :, :, place].astype(bool), expected)
        described = made.get_segment_description(place + 1)
        assert described.segment_label == f"object {place + 1}"
        assert described.algorithm_identification.parameters == {
            "model_sha256": model_hash(model),
            "box_x0_y0_x1_y1": " ".join(map(str, box)),
        }
    assert frames.any()
    assert (here / f"out/{kind}_overlay.png").is_file()
    table = pd.read_csv(here / "out/areas.csv")
    assert list(table["file"]) == [f"{kind}_seg.dcm"] * 2
    assert list(table["object"]) == [0, 1]
    assert list(table["area_px"]) == list(frames[0].sum((0, 1)))
    across, down = map(float, source.PixelSpacing)
    np.testing.assert_allclose(table["area_mm2"], table["area_px"] * across * down)


def test_an_image_without_a_place_in_space_has_a_segmentation_too(here: Path) -> None:
    image = pydicom.dcmread("CT.dcm")
    # as endoscopy and dermatoscopy are stored
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    image.Modality = "OT"
    for name in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del image[name]
    image.save_as("CT.dcm")
    result = run("CT.dcm", *boxed((10, 20, 90, 100)))
    assert result.exit_code == 0, (result.output, result.exception)
    made = highdicom.seg.segread("out/CT_seg.dcm")
    frames = made.get_pixels_by_source_instance([image.SOPInstanceUID], ignore_spatial_locations=True)
    predictor = mp.Predictor(mp.load("model.safetensors")).set_image(mp.data.read_image("CT.dcm"))
    np.testing.assert_array_equal(frames[0, :, :, 0].astype(bool), predictor.predict((10, 20, 90, 100)))
    (row,) = pd.read_csv(here / "out/areas.csv").itertuples()
    assert row.area_px == frames.sum()
    assert np.isnan(row.area_mm2)


def test_an_empty_mask_is_an_empty_segment(here: Path) -> None:
    nothing = np.zeros((128, 128), bool)
    dicom_seg.write_dicom_seg(here / "s.dcm", here / "CT.dcm", [nothing], [(1, 1, 9, 9)], "m", "0" * 64)
    made = highdicom.seg.segread("s.dcm")
    assert made.number_of_segments == 1
    assert not made.pixel_array.any()


def test_an_image_that_is_no_dicom_is_refused_before_work(here: Path) -> None:
    import PIL.Image

    PIL.Image.new("RGB", (40, 40)).save("a.png")
    result = run("a.png", *boxed((1, 1, 20, 20)))
    with pytest.raises(
        DataError, match=r"a\.png: a DICOM segmentation refers to the DICOM image.*PNG takes masks of any image"
    ):
        raise result.exception  # type: ignore[misc]
    assert not (here / "out").exists()


def test_an_image_that_lacks_what_is_to_be_repeated_is_said_in_one_line(here: Path) -> None:
    image = pydicom.dcmread("CT.dcm")
    del image.StudyInstanceUID
    image.save_as("CT.dcm")
    result = run("CT.dcm", *boxed((10, 20, 90, 100)))
    with pytest.raises(DataError, match=r"no DICOM segmentation can refer to it \(.*StudyInstanceUID") as caught:
        raise result.exception  # type: ignore[misc]
    assert "\n" not in str(caught.value)
    assert not list((here / "out").glob("[!.]*"))


def test_the_extra_is_named_where_it_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None if name == "highdicom" else name)
    result = run("CT.dcm", *boxed((10, 20, 90, 100)))
    with pytest.raises(DataError, match=r'need highdicom: pip install "medcore-prune\[dicom\]"'):
        raise result.exception  # type: ignore[misc]
