"""Which mask belongs to which image: by the name where that is unambiguous, else all of it is said."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.folders.listing import pair
from medcore_prune.data.folders.names import composed, without_image_words, without_mask_words

NFC, NFD = (unicodedata.normalize(form, "läsion_é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a{}.png", "a{}.png"),
        ("a{}.png", "a{}_mask.png"),
        ("a{}.jpg", "a{}_Segmentation.png"),
        ("a{}.bmp", "a{}_lesion.bmp"),
        ("a{}.png", "a{}-gt.tif"),
        ("a{}.png", "mask_a{}.png"),
        ("image_{}.png", "mask_{}.png"),
        ("img{}.png", "Mask{}.png"),
        ("a{}_image.png", "a{}_label.png"),
        ("a{}.jpg", "a{}.jpg.png"),
        ("a{}.jpg", "a{}.jpg_mask.png"),
        ("IMG_{}.PNG", "img_{}.png"),
        ("a{}.jfif", "a{}.ppm"),
        (NFC + "{}.png", NFD + "{}.png"),
        (NFD + "{}.png", NFC + "{}_mask.png"),
        ("p{}/a.png", "p{}/a.png"),
        ("p{}/a{}.png", "a{}_mask.png"),
        ("a{}.png", "p{}/a{}.png"),
    ],
)
def test_names_that_go_together(tmp_path: Path, image: str, mask: str) -> None:
    for number in (1, 2, 3):
        pixels = np.zeros((8, 10), np.uint8)
        pixels[2:6, number : number + 3] = 255
        shades = np.add.outer(np.arange(8), 3 * np.arange(10)).astype(np.uint8)
        for kind, name, values in (("images", image, shades), ("masks", mask, pixels)):
            place = tmp_path / kind / name.replace("{}", str(number))
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(place, format="JPEG" if place.suffix in (".jfif", ".jpg") else None)
    samples = folder(tmp_path)
    assert len(samples) == 3
    # each with its own mask
    for entry, sample in zip(samples.entries, samples, strict=True):
        number = next(character for character in str(entry.image.relative_to(tmp_path)) if character in "123")
        assert sample.box[0] == float(number)
        assert sample.name == composed(sample.name)


def keys(*names: str) -> list[tuple[str, Path]]:
    return [(name, Path(f"{name}.png")) for name in names]


@pytest.mark.parametrize(
    ("images", "masks", "paired", "kinds"),
    [
        # equal names come first, whatever words are in them
        (["a", "a_mask"], ["a", "a_mask"], 2, {}),
        (["A", "a"], ["a"], 1, {"image without mask": 1}),
        # two images would have it
        (["img_1", "image_1"], ["mask_1"], 0, {"image without mask": 2, "mask without image": 1}),
        (["a"], ["a_mask", "a_seg"], 0, {"several masks for one image": 1}),
        (["a"], ["a", "a_mask"], 0, {"several masks for one image": 1}),
        (["a", "a"], ["a"], 0, {"two images of one name": 1}),
        # another patient's slice of the same name is another one
        (["anna/1", "ben/1"], ["anna/1"], 1, {"image without mask": 1}),
        (["anna/1"], ["ben/1"], 0, {"image without mask": 1, "mask without image": 1}),
        (["anna/1", "ben/1"], ["1"], 0, {"image without mask": 2, "mask without image": 1}),
        (["a"], ["a_mask", "a_mask_1", "a_mask_2"], 1, {}),
        (["a_1", "a_2"], ["a_1_mask", "a_2_mask"], 2, {}),
        (["a", "a_1"], ["a", "a_1"], 2, {}),
        (["a", "b"], ["c", "d"], 0, {"image without mask": 2, "mask without image": 2}),
        # whose second mask it is, or whose only one
        (["a", "a_1"], ["a_mask_1"], 0, {"image without mask": 2, "mask without image": 1}),
    ],
)
def test_all_that_does_not_pair_is_said(images, masks, paired, kinds) -> None:
    listing = pair(keys(*images), keys(*masks))
    assert len(listing.entries) == paired
    assert {kind: len(what) for kind, what in listing.problems.items()} == kinds


def test_numbered_masks_are_united_and_that_is_said(pairs: Path, save, square) -> None:
    (pairs / "masks" / "a.png").unlink()
    for number in (1, 2):
        save(pairs / "masks" / f"a_mask_{number}.png", square(x=number))
    samples = folder(pairs)
    assert samples[0].box == (1.0, 2.0, 5.0, 5.0)
    assert samples.notes == ("united the numbered masks of 1 images: each image is one object",)


@pytest.mark.parametrize(
    ("key", "mask", "image"),
    [
        ("mask", "mask", "mask"),
        ("label_1", "1", "label_1"),
        ("Sub/IMG_7_Mask_2", "sub/img_7", "sub/7_mask_2"),
        ("imd7", "imd7", "imd7"),
        ("image", "image", "image"),
    ],
)
def test_words_are_taken_away_where_something_is_left(key, mask, image) -> None:
    assert (without_mask_words(key), without_image_words(key)) == (mask, image)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("film.mp4", r"film\.mp4: a video, which is not read: save its frames as images"),
        ("data.h5", r"data\.h5: a file of arrays"),
        ("images.zip", r"images\.zip: an archive: unpack it"),
    ],
)
def test_files_that_may_hold_images_are_named(pairs: Path, name: str, said: str) -> None:
    (pairs / "images" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        folder(pairs)
    assert len(folder(pairs, skip_bad=True)) == 3


def test_other_files_are_noted_but_for_those_that_lie_beside_images_anyway(pairs: Path) -> None:
    for name in ("LICENSE.txt", "Thumbs.db", ".DS_Store", "odd.xyz"):
        (pairs / "images" / name).write_bytes(b"x")
    assert folder(pairs).notes == ("left out 1 files that are no images: images/odd.xyz",)


def test_one_bad_file_refuses_the_folder_or_is_left_out(pairs: Path, save, square, picture) -> None:
    (pairs / "masks" / "b.png").write_bytes(b"junk")
    save(pairs / "images" / "lonely.png", picture(9))
    save(pairs / "masks" / "c.png", square(value=0))
    with pytest.raises(DataError, match=r"3 problems .*\n.*masks/b\.png.*\n(.*\n)*.*leave them out with skip_bad=True"):
        folder(pairs)
    samples = folder(pairs, skip_bad=True)
    assert list(samples.ids) == ["a"]
    (note,) = samples.notes
    assert note.startswith("3 left out, 1 used; cannot be read (1): masks/b.png: ")
    assert "empty mask (1): masks/c.png; image without mask (1): images/lonely.png" in note
    (pairs / "masks" / "a.png").unlink()
    with pytest.raises(DataError, match=r"found none; 4 left out, 0 used; "):
        folder(pairs, skip_bad=True)


def test_boxes_that_do_not_fit_are_left_out_with_their_images(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\na,1,1,4,4\nb,50,1,60,4\nz,1,1,2,2\n")
    samples = folder(pairs, boxes=tmp_path / "boxes.csv", skip_bad=True)
    assert (list(samples.ids), dict(samples.boxes)) == (["a"], {"a": (1.0, 1.0, 4.0, 4.0)})
    # what a manifest says is never a matter of taste
    (pairs / "manifest.csv").write_text("name,group\na,p1\nb,p1\n")
    with pytest.raises(DataError, match="no group in"):
        folder(pairs, skip_bad=True)


def test_connected_parts_are_samples_of_their_own(pairs: Path, save) -> None:
    mask = np.zeros((8, 10), np.uint8)
    mask[0:4, 0:4], mask[4:8, 4:6], mask[0, 9], mask[7, 9] = 255, 255, 255, 255
    save(pairs / "masks" / "a.png", mask)
    # parts that touch at a corner are one
    samples = folder(pairs, instances=True)
    assert list(samples.ids) == ["a", "b", "c"]
    assert samples[0].box == (0.0, 0.0, 5.0, 7.0)
    assert samples.notes == ("left out 2 parts of masks of fewer than 16 pixels",)
    mask[4, 4] = 0
    save(pairs / "masks" / "a.png", mask)
    found = folder(pairs, instances=True, smallest_px=4)
    assert list(found.ids) == ["a#1", "a#3", "b", "c"]
    assert list(found.groups) == ["a", "a", "b", "c"]
    assert [sample.box for sample in found][:2] == [(0.0, 0.0, 3.0, 3.0), (4.0, 4.0, 5.0, 7.0)]
    assert len({*found.hashes()}) == 4
    everything = folder(pairs, instances=True, smallest_px=1)
    np.testing.assert_array_equal(sum(s.mask for s in everything if s.group == "a"), mask > 0)
    none = folder(pairs, instances=True, smallest_px=16)
    assert list(none.ids) == ["a", "b", "c"]
    save(pairs / "masks" / "a.png", np.uint8(255) * np.eye(8, 10, dtype=np.uint8))
    assert "images without a larger one: " in folder(pairs, instances=True, smallest_px=16).notes[0]
