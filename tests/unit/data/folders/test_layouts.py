"""Each known layout, on a tiny folder of its own."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medcore_prune._support.errors import DataError, RegistryError
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.folders.layouts import LAYOUTS, REGISTRY, Listing, detect, register_layout


@pytest.fixture
def fill(tmp_path, save, picture, square):
    """Write a folder of images and masks by their relative names; return it."""

    def write(images, masks):
        for number, name in enumerate(images):
            save(tmp_path / name, picture(number))
        for number, name in enumerate(masks):
            save(tmp_path / name, square(x=number % 6))
        return tmp_path

    return write


def test_plain_and_kvasir(fill):
    root = fill(["images/a.png", "images/b.jpg"], ["masks/b.png", "masks/a.jpg"])
    assert detect(root) == "plain"
    for layout in ("auto", "plain", "kvasir_seg"):
        samples = folder(root, layout)
        assert list(samples.ids) == list(samples.groups) == ["a", "b"]
    assert samples[1].box == (0.0, 2.0, 3.0, 5.0)


def test_masks_may_carry_a_suffix(fill):
    root = fill(["images/a.png", "images/b_mask.png"], ["masks/a_mask.png", "masks/b_mask.png"])
    assert [entry.masks[0].name for entry in folder(root).entries] == ["a_mask.png", "b_mask.png"]


@pytest.mark.parametrize("inner", ["", "PNG/", "TIF/"])
def test_clinicdb_groups_by_video_sequence(fill, inner):
    frames = [f"{n}.tif" for n in (1, 25, 26, 103, 104, 612)]
    root = fill([f"{inner}Original/{f}" for f in frames], [f"{inner}Ground Truth/{f}" for f in frames])
    assert detect(root) == "cvc_clinicdb"
    samples = folder(root)
    groups = dict(zip(samples.ids, samples.groups, strict=True))
    assert groups == {"1": "seq01", "25": "seq01", "26": "seq02", "103": "seq05", "104": "seq06", "612": "seq29"}


def test_clinicdb_in_plain_folders_when_told_and_frames_of_unknown_number(fill):
    names = ["027.png", "700.png", "x.png"]
    root = fill([f"images/{n}" for n in names], [f"masks/{n}" for n in names])
    assert list(folder(root, "cvc_clinicdb").groups) == ["seq02", "700", "x"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["images/p1.png", "images/p12.png"], ["masks/p12mask.png", "masks/p1mask.png"]),
        (["images/1.png", "images/12.png"], ["masks/p12.png", "masks/p1.png"]),
        (["1.tiff", "12.tiff"], ["p12.tiff", "p1.tiff", "c1.tiff", "m12.tiff"]),
    ],
)
def test_colondb_pairs_by_number(fill, images, masks):
    root = fill(images, masks)
    assert detect(root) == "cvc_colondb"
    samples = folder(root)
    assert list(samples.ids) == ["1", "12"]
    # the masks were drawn in the order 12, 1
    assert [sample.box[0] for sample in samples] == [1.0, 0.0]


def test_busi_merges_masks_and_skips_normal(fill, tmp_path):
    root = fill(
        ["benign/benign (1).png", "benign/benign (2).png", "malignant/malignant (1).png", "normal/normal (1).png"],
        [
            "benign/benign (1)_mask.png",
            "benign/benign (1)_mask_1.png",
            "benign/benign (2)_mask.png",
            "malignant/malignant (1)_mask.png",
            "normal/normal (1)_mask.png",
        ],
    )
    assert detect(root) == "busi"
    samples = folder(root)
    assert list(samples.ids) == ["benign/benign (1)", "benign/benign (2)", "malignant/malignant (1)"]
    # squares of columns 0 to 3 and 1 to 4
    assert samples[0].box == (0.0, 2.0, 4.0, 5.0)
    assert samples.notes == ("skipped 1 images of normal/: they show no lesion",)


def test_isic_parts_are_taken_together(fill):
    root = fill(
        ["ISIC2018_Task1-2_Training_Input/ISIC_0000001.jpg", "ISIC2018_Task1-2_Test_Input/ISIC_0000002.jpg"],
        [
            "ISIC2018_Task1_Training_GroundTruth/ISIC_0000001_segmentation.png",
            "ISIC2018_Task1_Test_GroundTruth/ISIC_0000002_segmentation.png",
        ],
    )
    (root / "ISIC2018_Task1-2_Training_Input" / "LICENSE.txt").write_text("terms")
    assert detect(root) == "isic2018"
    assert sorted(folder(root).ids) == ["ISIC_0000001", "ISIC_0000002"]


@pytest.mark.parametrize(
    ("images", "masks", "suffix", "layout"),
    [("imgs", "gts", ".npy", "medsam_npy"), ("images", "instances", ".png", "instances")],
)
def test_label_maps_give_a_sample_a_label(tmp_path, save, picture, square, images, masks, suffix, layout):
    labels = np.where(square(x=5, y=4) > 0, 7, square(x=0, y=0, value=2)).astype(np.uint8)
    save(tmp_path / images / f"one{suffix}", picture(0))
    save(tmp_path / masks / f"one{suffix}", square())
    save(tmp_path / images / f"two{suffix}", picture(1))
    save(tmp_path / masks / f"two{suffix}", labels)
    assert detect(tmp_path) == layout
    samples = folder(tmp_path)
    assert list(samples.ids) == ["one", "two#2", "two#7"]
    assert list(samples.groups) == ["one", "two", "two"]
    assert [sample.box for sample in samples][1:] == [(0.0, 0.0, 3.0, 3.0), (5.0, 4.0, 8.0, 7.0)]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (["masks"], "plain: no images/"),
        (["imgs"], "plain: no masks/"),
        (["Labels"], "plain: no images/"),
        (["gts"], "medsam_npy: no imgs/"),
        (["Original"], "cvc_clinicdb: no Ground Truth/"),
        (["HAM10000_images_part_1"], "ham10000: no HAM10000_segmentations_*/"),
        (["ISIC2018_Task1-2_Training_Input"], "isic2018: no *_GroundTruth/"),
        (["ISIC2018_Task1_Training_GroundTruth"], "isic2018: no *_Input/ or *_Data/"),
        (["Train", "val"], "parts: no test/"),
        (["photos"], "plain: no images/, no masks/"),
    ],
)
def test_the_likeliest_layout_comes_first_with_what_is_missing(tmp_path: Path, there: list[str], said: str) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="recognised no layout") as caught:
        detect(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"  {said} (")
    assert len(lines) <= 7


def test_unknown_layouts_and_folders(tmp_path):
    with pytest.raises(DataError, match="the folder is empty; known layouts are") as caught:
        folder(tmp_path)
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == list(LAYOUTS)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"no layout in images/; the likeliest, and what is missing:") as caught:
        folder(tmp_path)
    plain, *further = str(caught.value).splitlines()[1:]
    assert plain == "  plain: no masks/ (images/ and masks/ with equal stems)"
    assert "  instances: no instances/ (" in "\n".join(further)
    assert "  nifti: no labels/ (" in "\n".join(further)
    # recognised by the same as nifti, and by nothing at all
    assert not any(line.startswith(("  nifti_", "  kvasir_seg:")) for line in further)
    assert re.search("^  others, by name: .*kvasir_seg", further[-1])
    (tmp_path / "images").rmdir()
    with pytest.raises(
        DataError, match=r"unknown layout 'kvasir': did you mean 'kvasir_seg'\? available are auto, nifti"
    ):
        folder(tmp_path, layout="kvasir")
    with pytest.raises(DataError, match="expected a folder of images and masks, there is none"):
        folder(tmp_path / "gone")


def test_a_folder_within_a_folder_is_suggested(fill):
    root = fill(["Kvasir/images/a.png"], ["Kvasir/masks/a.png"])
    with pytest.raises(DataError, match=r"recognised no layout in Kvasir/; did you mean .*Kvasir\?"):
        folder(root)


@pytest.mark.parametrize("given", ["Images", "masks"])
def test_the_folder_above_is_suggested_where_that_of_images_or_of_masks_is_given(fill, given):
    root = fill([f"set/Images/{name}.png" for name in "abcdefgh"], [f"set/masks/{name}.png" for name in "abcdefgh"])
    with pytest.raises(DataError) as caught:
        folder(root / "set" / given)
    first = str(caught.value).splitlines()[0]
    assert f"recognised no layout in a.png, b.png, c.png and 5 more; did you mean {root / 'set'}?" in first
    # a name says nothing where there is nothing above
    (root / "masks").mkdir()
    (root / "masks" / "a.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        folder(root / "masks")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("layout", ["plain", "cvc_clinicdb", "medsam_npy"])
def test_a_layout_that_does_not_fit_says_which_folders_it_needs(tmp_path, layout):
    with pytest.raises(DataError, match="expected the folders"):
        folder(tmp_path, layout=layout)


@pytest.mark.parametrize("layout", ["busi", "isic2018", "cvc_colondb"])
def test_a_folder_without_images_is_refused(tmp_path, layout):
    with pytest.raises(DataError, match="found none"):
        folder(tmp_path, layout=layout)


@pytest.fixture
def own() -> Iterator[None]:
    yield
    for name in set(LAYOUTS) - BUILT_IN:
        REGISTRY.unregister(name)


BUILT_IN = set(LAYOUTS)


def fails(_: Path) -> bool:
    raise KeyError("x")


def test_a_layout_of_ones_own_is_asked_first_and_listed_last(own: None, tmp_path: Path) -> None:
    for name, values in (("images", np.arange(256).reshape(16, 16)), ("masks", np.eye(16, dtype=np.uint8))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", values.astype(np.uint8))
    assert detect(tmp_path) == "plain"
    register_layout("mine", title="as plain", matches=lambda root: (root / "masks").is_dir())(
        lambda root: LAYOUTS["plain"].scan(root)
    )
    assert detect(tmp_path) == "mine"
    assert list(LAYOUTS)[-1] == "mine"
    assert len(LAYOUTS) == len(BUILT_IN) + 1
    assert list(folder(tmp_path).ids) == ["a"]


def test_a_layout_that_fails_is_named(own: None, tmp_path: Path) -> None:
    register_layout("bad_match", title="none", matches=fails)(lambda root: Listing())
    with pytest.raises(DataError, match=r"layout bad_match failed: KeyError: 'x' \(test_layouts\.py, line"):
        folder(tmp_path)
    register_layout("bad_scan", title="none")(fails)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"layout bad_scan failed: KeyError"):
        folder(tmp_path, layout="bad_scan")
    register_layout("no_listing", title="none")(lambda root: [])  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match="layout no_listing: expected its function to return a Listing, got list"):
        folder(tmp_path, layout="no_listing")


def test_names_of_layouts_are_checked(own: None) -> None:
    with pytest.raises(RegistryError, match=r"layout name 'plain' is taken \(built-in\): choose another"):
        register_layout("plain", title="mine")(lambda root: Listing())
    with pytest.raises(RegistryError, match="bad layout name 'My layout': expected lower-case"):
        register_layout("My layout", title="mine")
