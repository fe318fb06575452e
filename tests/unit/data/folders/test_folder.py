"""A folder is checked as a whole before its first use, and read when asked for."""

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders import check
from medcore_prune.data.folders.folder import folder as open_folder
from medcore_prune.data.samples import content_hash, image_hash


def test_samples_carry_image_mask_box_and_group(pairs, picture, square):
    samples = open_folder(pairs)
    assert (samples.name, len(samples), list(samples.ids)) == ("set", 3, ["a", "b", "c"])
    sample = samples[1]
    np.testing.assert_array_equal(sample.image, picture(1))
    np.testing.assert_array_equal(sample.mask, square(x=1) > 0)
    assert (sample.dataset, sample.name, sample.group, sample.box) == ("set", "b", "b", (1.0, 2.0, 4.0, 5.0))
    assert [s.name for s in samples] == ["a", "b", "c"]
    assert open_folder(pairs, name="other")[0].dataset == "other"
    with pytest.raises(IndexError):
        samples[3]


def test_few_images_are_decoded_before_they_are_asked_for(pairs, monkeypatch, save, picture, square):
    for number in range(100):
        save(pairs / "images" / f"n{number}x.png", picture(number))
        save(pairs / "masks" / f"n{number}x.png", square())
    read = []
    whole = check.read_image
    monkeypatch.setattr(check, "read_image", lambda path: read.append(path) or whole(path))
    open_folder(pairs)
    assert 16 <= len(read) <= 24


def test_hashes_are_of_pixels_not_of_files(pairs, picture, square, save):
    before = open_folder(pairs).hashes()
    assert before[0] == content_hash(picture(0), square(x=0) > 0)
    (pairs / "images" / "a.png").unlink()
    save(pairs / "images" / "a.bmp", picture(0))
    save(pairs / "masks" / "b.png", square(x=3))
    after = open_folder(pairs)
    assert after.hashes()[0] == before[0]
    assert after.hashes()[1] != before[1]
    assert after.image_hashes()[1] == image_hash(picture(1))


def test_all_problems_are_in_one_message(pairs, save, picture, square):
    save(pairs / "images" / "lonely.png", picture(5))
    save(pairs / "masks" / "widow.png", square())
    for name in ("empty", "small", "broken", "page"):
        save(pairs / "images" / f"{name}.png", picture(6))
    save(pairs / "masks" / "empty.png", square(value=0))
    save(pairs / "masks" / "small.png", square()[:, :-1])
    (pairs / "masks" / "broken.png").write_bytes(b"\x89PNG\r\n")
    save(pairs / "masks" / "page.png", square())
    (pairs / "images" / "page.png").write_text("<html>")
    save(pairs / "images" / "a.jpg", picture(7))
    with pytest.raises(DataError) as caught:
        open_folder(pairs)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{pairs}: 7 problems to mend before any work starts"
    found = {line.split(":")[0].strip(): line for line in lines[1:-1]}
    assert lines[-1] == "  mend them, or leave them out with skip_bad=True"
    assert "broken.png" in found["cannot be read (2)"]
    assert "images/page.png" in found["cannot be read (2)"]
    assert found["empty mask (1)"].endswith(": masks/empty.png")
    assert found["image without mask (1)"].endswith(": images/lonely.png")
    assert found["mask without image (1)"].endswith(": masks/widow.png")
    assert found["sizes differ (1)"].endswith(": images/small.png 10 x 8, mask 9 x 8")
    assert "images/a.jpg and images/a.png" in found["two images of one name (1)"]
    assert len(found) == 6


def test_an_image_that_breaks_later_is_refused_when_hashed_and_when_read(pairs):
    samples = open_folder(pairs)
    (pairs / "images" / "b.png").unlink()
    (pairs / "images" / "c.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"2 problems.*\n.*b\.png: no such file.*c\.png: expected an image"):
        samples.hashes()
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        samples[1]


def test_masks_of_one_image_that_differ_in_size_are_refused(tmp_path, save, picture, square):
    save(tmp_path / "benign" / "benign (1).png", picture(0))
    save(tmp_path / "benign" / "benign (1)_mask.png", square())
    save(tmp_path / "benign" / "benign (1)_mask_1.png", square()[:4])
    with pytest.raises(DataError, match="its masks differ in size, 10 x 8, 10 x 4"):
        open_folder(tmp_path)


def test_boxes_from_a_file_replace_those_of_the_masks(pairs, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("name,x0,y0,x1,y1\na,1,1,4,4\nb,0,0,9,7\nc,1,1,4,4\n")
    samples = open_folder(pairs, boxes=boxes)
    assert samples[1].box == (0.0, 0.0, 9.0, 7.0)
    assert samples[0].box == (1.0, 1.0, 4.0, 4.0)
    boxes.write_text("name,x0,y0,x1,y1\nz,0,0,9,7\n")
    with pytest.raises(DataError, match=r"box without image \(1\): z"):
        open_folder(pairs, boxes=boxes)


def test_manifest_gives_groups_by_name(pairs):
    (pairs / "manifest.csv").write_text("name,group\na,p1\nb,p1\nc,p2\n")
    assert list(open_folder(pairs).groups) == ["p1", "p1", "p2"]


def test_manifest_gives_pairs_names_and_groups(pairs, save, square):
    save(pairs / "masks" / "a2.png", square(x=5))
    rows = ["a,images/a.png,masks/a.png", "a2,images/a.png,masks/a2.png", "b,images/b.png,masks/b.png"]
    manifest = pairs / "manifest.csv"
    manifest.write_text("name,image,mask\n" + "\n".join([*rows, ",images/c.png,masks/c.png"]) + "\n")
    samples = open_folder(pairs)
    assert list(samples.ids) == ["a", "a2", "b", "c"]
    assert samples[1].box[0] == 5.0
    # masks that share an image stay together
    assert samples.groups[0] == samples.groups[1] != samples.groups[2]
    assert samples.image_hashes()[0] == samples.image_hashes()[1]
    assert samples.hashes()[0] != samples.hashes()[1]


def test_manifest_and_files_must_agree(pairs):
    rows = [
        "a,images/a.png,masks/gone.png,g",
        "x,images/x.png,masks/x.png,g",
        "y,images/x.png,masks/b.png,g",
        "a,images/a.png,masks/a.png,g",
        "z,,,g",
    ]
    (pairs / "manifest.csv").write_text("name,image,mask,group\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError) as caught:
        open_folder(pairs)
    text = str(caught.value)
    assert "image without mask (1): images/a.png" in text
    assert "listed in manifest.csv but not there (1): images/x.png and masks/x.png" in text
    assert "mask without image (1): masks/b.png" in text
    assert "name used twice in manifest.csv (1): a (line 5)" in text
    assert "row of manifest.csv without image or mask (1): line 6" in text
    assert "not listed in manifest.csv (3): images/b.png; images/c.png; masks/c.png" in text


def test_an_image_without_a_group_is_refused_because_it_could_leak(pairs):
    (pairs / "manifest.csv").write_text("name,group\na,p1\nb,p1\n")
    with pytest.raises(DataError, match=r"no group in manifest\.csv \(1\): images/c\.png"):
        open_folder(pairs)


PAIRS = [f"images/{name}.png,masks/{name}.png" for name in "abc"]


def paired(pairs, header, cells, name="manifest.csv"):
    (pairs / name).write_text("\n".join([header, *(f"{pair},{cell}" for pair, cell in zip(PAIRS, cells, strict=True))]))


@pytest.mark.parametrize("name", ["manifest.csv", "Manifest.csv", "MANIFEST.CSV"])
def test_names_of_columns_and_of_the_manifest_are_taken_in_any_case(pairs, name):
    paired(pairs, " Image,MASK ,Group", ["p1", "p1", "p2"], name)
    samples = open_folder(pairs)
    assert (list(samples.groups), samples.notes) == (["p1", "p1", "p2"], ())
    (pairs / name).write_text("NAME, Group\na,p1\nb,p2\nc,p2\n")
    assert list(open_folder(pairs).groups) == ["p1", "p2", "p2"]
    (pairs / name).write_text("name,group,Group\na,p1,p2\n")
    with pytest.raises(DataError, match="expected each column once, got group twice"):
        open_folder(pairs)


def test_two_manifests_are_refused(pairs):
    for name in ("manifest.csv", "Manifest.csv"):
        paired(pairs, "image,mask,group", "xyz", name)
    if len(list(pairs.glob("*.csv"))) < 2:
        pytest.skip("this file system takes both names for one file")
    with pytest.raises(DataError, match=r"expected one manifest\.csv, got Manifest\.csv, manifest\.csv: remove one"):
        open_folder(pairs)


def test_columns_that_are_not_read_are_noted(pairs):
    paired(pairs, "image,mask,Patient,\x1b[31m", ["p1,", "p1,", "p2,"])
    (note,) = open_folder(pairs).notes
    assert note.startswith(
        r"columns of manifest.csv that are not read: patient, '\x1b[31m'; what must stay on one side"
    )
    # what belongs together is said
    paired(pairs, "image,mask,group,patient", ["p1,9", "p1,9", "p2,9"])
    assert open_folder(pairs).notes == ()


def test_rows_without_a_group_are_problems(pairs):
    paired(pairs, "image,mask,group", ["p1", " ", "p2"])
    with pytest.raises(DataError, match=r"no group in manifest\.csv \(1\): images/b\.png \(line 3\)"):
        open_folder(pairs)


def test_one_image_in_two_groups_is_a_problem(pairs, save, square):
    save(pairs / "masks" / "a2.png", square(x=5))
    paired(pairs, "image,mask,group", ["p1", "p1", "p2\nimages/a.png,masks/a2.png,p2"])
    found = r"two groups for one image in manifest\.csv \(1\): images/a\.png: p1, p2"
    with pytest.raises(DataError, match=found + r" \(line 5\)"):
        open_folder(pairs)
    (pairs / "masks" / "a2.png").unlink()
    for column, name in (("name", "a"), ("image", "images/a.png")):
        rest = "b,p2\nc,p2" if column == "name" else "images/b.png,p2\nimages/c.png,p2"
        (pairs / "manifest.csv").write_text(f"{column},group\n{name},p1\n{rest}\n{name},p2\n")
        with pytest.raises(DataError, match=found):
            open_folder(pairs)


def test_masks_of_one_image_stay_together_however_its_path_is_written(pairs, save, square):
    save(pairs / "masks" / "a2.png", square(x=5))
    (pairs / "manifest.csv").write_text("image,mask\n" + "\n".join([*PAIRS, r"images\a.png,masks\a2.png"]))
    assert list(open_folder(pairs).groups) == [f"images/{name}.png" for name in "abca"]


def test_rows_of_more_cells_than_columns_are_problems(pairs):
    paired(pairs, "image,mask,group", ["p1", "p,1", "p2"])
    with pytest.raises(DataError, match=r"row of manifest\.csv with more cells than columns \(1\): line 3"):
        open_folder(pairs)
    (pairs / "manifest.csv").write_text("name,group\na,p1,\nb,p1,2\nc,p2\n")
    with pytest.raises(DataError, match=r"row of manifest\.csv with more cells than columns \(1\): line 3"):
        open_folder(pairs)


@pytest.mark.parametrize("text", ["id,patient\na,1\n", ""])
def test_a_manifest_of_unknown_columns_is_refused(pairs, text):
    (pairs / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.csv: expected the columns name,group or image,mask"):
        open_folder(pairs)


def test_a_manifest_that_is_no_text_is_refused(pairs):
    (pairs / "manifest.csv").write_bytes(b"name,group\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="expected a CSV file in UTF-8"):
        open_folder(pairs)


def test_boxes_must_be_there_for_all_and_on_their_image(pairs, tmp_path):
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\na,1,1,4,4\nb,50,1,60,4\n")
    with pytest.raises(DataError) as caught:
        open_folder(pairs, boxes=tmp_path / "boxes.csv")
    assert "image without box (1): c" in str(caught.value)
    assert "box outside of its image (1): b (10 x 8)" in str(caught.value)
    (tmp_path / "latin.csv").write_bytes("name,x0,y0,x1,y1\nä,1,1,4,4\n".encode("latin-1"))
    with pytest.raises(DataError, match="expected a CSV file in UTF-8"):
        open_folder(pairs, boxes=tmp_path / "latin.csv")


def test_boxes_are_content(pairs, tmp_path):
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\n" + "".join(f"{name},1,1,4,4\n" for name in "abc"))
    own, given = open_folder(pairs), open_folder(pairs, boxes=tmp_path / "boxes.csv")
    assert set(own.hashes()).isdisjoint(given.hashes())
    assert own.image_hashes() == given.image_hashes()


def test_numbered_frames_without_groups_are_noted(tmp_path, save, picture, square):
    for number in range(20):
        save(tmp_path / "images" / f"{number}.png", picture(number))
        save(tmp_path / "masks" / f"{number}.png", square())
    assert any("frames of videos" in note for note in open_folder(tmp_path).notes)
    rows = "".join(f"{number},v{number // 5}\n" for number in range(20))
    (tmp_path / "manifest.csv").write_text(f"name,group\n{rows}")
    assert not open_folder(tmp_path).notes


def test_a_manifest_settles_two_files_of_one_stem(pairs, save, picture, square):
    save(pairs / "images" / "a.jpg", picture(9))
    save(pairs / "masks" / "a.bmp", square(x=5))
    with pytest.raises(DataError, match=r"two images of one name \(1\): images/a\.jpg and images/a\.png"):
        open_folder(pairs)
    rows = [f"{name},images/{name}.png,masks/{name}.png" for name in "abc"]
    manifest = pairs / "manifest.csv"
    manifest.write_text("name,image,mask\n" + "\n".join([*rows, "a_jpg,images/a.jpg,masks/a.bmp"]) + "\n")
    samples = open_folder(pairs)
    assert list(samples.ids) == ["a", "b", "c", "a_jpg"]
    assert (samples[0].box[0], samples[3].box[0]) == (0.0, 5.0)
    # what no row names is still said
    manifest.write_text("name,image,mask\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"not listed in manifest\.csv \(2\): images/a\.jpg; masks/a\.bmp"):
        open_folder(pairs)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "images/../../outside.png",
        "/etc/passwd",
        r"..\outside.png",
        r"C:\outside.png",
        r"\\host\x.png",
    ],
)
def test_a_manifest_reads_nothing_outside_of_its_folder(pairs, save, picture, path):
    save(pairs.parent / "outside.png", picture(5))
    (pairs / "manifest.csv").write_text(f"image,mask\n{path},masks/a.png\n")
    with pytest.raises(DataError, match=r"path in manifest\.csv that leaves the folder \(1\): .* \(line 2\)"):
        open_folder(pairs)


@pytest.mark.parametrize("path", ["images/\0.png", "images/" + "a" * 5000 + ".png", "images/\udcff.png", "images"])
def test_a_manifest_with_paths_that_no_file_has(pairs, path):
    (pairs / "manifest.csv").write_bytes(f"image,mask\n{path},masks/a.png\n".encode(errors="replace"))
    with pytest.raises(DataError, match="mask without image"):
        open_folder(pairs)


def test_a_manifest_written_on_windows_and_links_within_the_folder(pairs):
    (pairs / "images" / "c.png").rename(pairs.parent / "elsewhere.png")
    (pairs / "images" / "c.png").symlink_to(pairs.parent / "elsewhere.png")
    (pairs / "manifest.csv").write_text(
        "image,mask\n" + "".join(f"images\\{name}.png,masks\\{name}.png\n" for name in "abc")
    )
    assert list(open_folder(pairs).ids) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\rb", "a\x00"])
def test_names_with_control_characters_are_refused(pairs, name):
    rows = "".join(f"{each},images/{each}.png,masks/{each}.png\n" for each in "bc")
    text = f'name,image,mask\n"{name}",images/a.png,masks/a.png\n{rows}'
    (pairs / "manifest.csv").write_bytes(text.encode())
    with pytest.raises(DataError, match=r"name with control characters|could not read it"):
        open_folder(pairs)


def test_file_names_that_are_no_text_are_refused(pairs):
    for kind in ("images", "masks"):
        (pairs / kind / "a.png").rename(pairs / kind / "\udcff.png")
    with pytest.raises(DataError, match=r"name with control characters \(2\): '\\udcff'"):
        open_folder(pairs)


def test_boxes_without_a_name_are_refused(pairs, tmp_path):
    (tmp_path / "boxes.csv").write_text("x0,y0,x1,y1,name\n1,1,4,4\n")
    with pytest.raises(DataError, match="line 2: a box without a name"):
        open_folder(pairs, boxes=tmp_path / "boxes.csv")
