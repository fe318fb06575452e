"""Data sets as they are published: small files that lie and are called as the real ones."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.folders.layouts import detect
from medcore_prune.data.splits.split import split


@pytest.fixture
def fill(tmp_path, save, picture, square):
    """Write images and masks by their relative names, each mask a square further right; return the folder."""

    def write(images, masks):
        for name in images:
            save(tmp_path / name, picture(crc32(name.encode())))
        for number, name in enumerate(masks):
            save(tmp_path / name, square(x=number % 6))
        return tmp_path

    return write


def left(samples) -> list[float]:
    return [sample.box[0] for sample in samples]


def test_clinicdb_as_tiff_with_stray_values_in_its_masks(fill, save, square) -> None:
    frames = [f"{n}.tif" for n in (1, 26, 612)]
    root = fill([f"Original/{f}" for f in frames], [f"Ground Truth/{f}" for f in frames])
    # the dark frame shines through
    stray = square(x=5)
    stray[:4, :4] = [[11, 12, 11, 11], [11, 11, 11, 19], [11, 11, 11, 11], [11, 11, 11, 15]]
    save(root / "Ground Truth" / "26.tif", stray)
    samples = folder(root)
    assert (detect(root), list(samples.ids)) == ("cvc_clinicdb", ["1", "26", "612"])
    assert np.array_equal(samples[1].mask, square(x=5) > 0)
    # elsewhere such values may be labels: the threshold has the last word
    (root / "Original").rename(root / "images")
    (root / "Ground Truth").rename(root / "masks")
    with pytest.raises(DataError, match=r"holds the values 11, .*or give a mask threshold"):
        folder(root)
    for threshold in ("half", 19, 254.5):
        assert np.array_equal(folder(root, mask_threshold=threshold)[1].mask, square(x=5) > 0)
    assert folder(root, mask_threshold=10)[1].box == (0.0, 0.0, 8.0, 5.0)


@pytest.mark.parametrize("outer", ["", "PH2 Dataset images/"])
def test_ph2_has_a_folder_an_image(fill, outer) -> None:
    cases = ["IMD002", "IMD003"]
    root = fill(
        [f"{outer}{case}/{case}_Dermoscopic_Image/{case}.bmp" for case in cases],
        [f"{outer}{case}/{case}_lesion/{case}_lesion.bmp" for case in cases]
        + [f"{outer}{cases[0]}/{cases[0]}_roi/{cases[0]}_R1_Label3.bmp"],
    )
    samples = folder(root)
    assert (detect(root), list(samples.ids), left(samples)) == ("ph2", cases, [0.0, 1.0])


@pytest.mark.parametrize(("second", "masks"), [("validation", "labels"), ("val", "masks"), ("Valid", "Masks")])
def test_parts_with_folders_of_their_own_are_the_split(fill, second, masks) -> None:
    parts = ["train", "train", second, second]
    names = [f"{part}/images/{n}.png" for n, part in enumerate(parts)]
    root = fill([*names, "test/images/9.png"], [name.replace("images", masks) for name in names])
    samples = folder(root)
    assert detect(root) == "parts"
    found = dict(zip(samples.ids, samples.roles, strict=True))
    assert found == {f"{part}/{n}": "train" if n < 2 else "validation" for n, part in enumerate(parts)}
    assert "left out 1 images of test/: it has no folder of masks" in samples.notes
    assert "the folder has a split of its own, which is kept: train 2, validation 2" in samples.notes


def test_parts_below_images_and_masks_are_the_split(fill) -> None:
    names = ["train/a.png", "train/b.png", "test/a.png"]
    root = fill([f"images/{name}" for name in names], [f"masks/{name}" for name in names])
    samples = folder(root)
    assert list(samples.ids) == ["test/a", "train/a", "train/b"]
    assert samples.roles == ["test", "train", "train"]
    assert left(samples) == [2.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("images", "masks", "ending"),
    [
        ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", "_segmentation"),
        ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", "_Segmentation"),
        ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", "_segmentation"),
    ],
)
def test_isic_keeps_its_parts_and_leaves_superpixels_aside(fill, images, masks, ending) -> None:
    of = {"Training": "train", "Validation": "validation", "Test": "test"}
    root = fill(
        [f"{images.format(part)}/ISIC_{n}.jpg" for n, part in enumerate(of)]
        + [f"{images.format(part)}/ISIC_{n}_superpixels.png" for n, part in enumerate(of)],
        [f"{masks.format(part)}/ISIC_{n}{ending}.png" for n, part in enumerate(of)],
    )
    samples = folder(root)
    assert detect(root) == "isic2018"
    roles = dict(zip(samples.ids, samples.roles, strict=True))
    assert roles == {f"ISIC_{n}": role for n, role in enumerate(of.values())}
    assert {sample.name: sample.box[0] for sample in samples} == {"ISIC_0": 0.0, "ISIC_1": 1.0, "ISIC_2": 2.0}


def test_busi_unites_masks_and_leaves_its_faulty_pair_out(fill, save, square) -> None:
    names = [f"benign/benign ({n})" for n in (1, 2, 3)] + ["malignant/malignant (1)"]
    masks = [f"{name}_mask.png" for name in names]
    root = fill([f"{name}.png" for name in names], masks)
    save(root / "benign" / "benign (2)_mask_1.png", square(x=6))
    save(root / "benign" / "benign (3)_mask_1.png", square()[:, :-1])
    samples = folder(root)
    assert list(samples.ids) == [names[0], names[1], names[3]]
    assert samples[1].box == (1.0, 2.0, 9.0, 5.0)
    (note,) = samples.notes
    assert note.startswith("1 left out, 3 used; sizes differ (1): benign/benign (3).png: its masks differ in size")
    # other faults are not known ones
    (root / "malignant" / "malignant (1)_mask.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"cannot be read \(1\): malignant"):
        folder(root)
    assert list(folder(root, skip_bad=True).ids) == names[:2]


@pytest.mark.parametrize("name", ["ETIS-LaribPolypDB", "CVC-300", "CVC-ColonDB"])
def test_test_sets_of_polyps(fill, name) -> None:
    numbers = [1, 10, 149]
    root = fill(
        [f"TestDataset/{name}/images/{n}.png" for n in numbers], [f"TestDataset/{name}/masks/{n}.png" for n in numbers]
    )
    assert list(folder(root / "TestDataset" / name).ids) == ["1", "10", "149"]
    with pytest.raises(DataError, match=f"did you mean .*{name}"):
        folder(root / "TestDataset")


def test_etis_as_first_published(fill) -> None:
    root = fill(["ETIS-LaribPolypDB/1.tif", "ETIS-LaribPolypDB/2.tif"], ["Ground Truth/p2.tif", "Ground Truth/p1.tif"])
    assert left(folder(root)) == [1.0, 0.0]


def test_ham10000_groups_by_lesion(fill) -> None:
    names = ["ISIC_1", "ISIC_2", "ISIC_3"]
    root = fill(
        [f"HAM10000_images_part_{min(n, 1) + 1}/{name}.jpg" for n, name in enumerate(names)],
        [f"HAM10000_segmentations_lesion_tschandl/{name}_segmentation.png" for name in names],
    )
    samples = folder(root)
    assert (detect(root), list(samples.ids)) == ("ham10000", names)
    assert "images of one lesion may fall on both sides" in samples.notes[0]
    (root / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx\nL1,ISIC_1,nv\nL1,ISIC_2,nv\nL2,ISIC_3,mel\n")
    assert list(folder(root).groups) == ["L1", "L1", "L2"]
    (root / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx\nL1,ISIC_1,nv\nL1,ISIC_2,nv\n")
    with pytest.raises(DataError, match=r"no lesion in HAM10000_metadata\.csv \(1\): .*ISIC_3\.jpg"):
        folder(root)


def test_pairs_in_one_folder(fill) -> None:
    names = ["p1/p1_1.tif", "p1/p1_2.tif", "p2/p2_1.tif"]
    root = fill(names, [name.replace(".tif", "_mask.tif") for name in names])
    samples = folder(root)
    assert (detect(root), left(samples)) == ("together", [0.0, 1.0, 2.0])


def test_an_own_split_is_kept_and_what_it_lacks_is_drawn_from_training(fill) -> None:
    names = [f"{'test' if n > 7 else 'train'}/{n:02d}.png" for n in range(12)]
    root = fill([f"images/{name}" for name in names], [f"masks/{name}" for name in names])
    samples = folder(root)
    for seed in range(5):
        parts = split({"own": samples}, seed=seed)
        ids = {role: set(part["own"].ids) for role, part in parts.roles().items()}
        assert ids["test"] == {f"test/{n:02d}" for n in range(8, 12)}
        assert len(ids["validation"]) == 1
        assert ids["train"] | ids["validation"] == {f"train/{n:02d}" for n in range(8)}
    whole = split({"own": samples}, fractions=(0.8, 0.0, 0.2))
    assert (len(whole.train["own"]), whole.validation, len(whole.test["own"])) == (8, {}, 4)


@pytest.mark.parametrize("pairs_too", [True, False])
def test_a_column_split_of_the_manifest(pairs, pairs_too) -> None:
    roles = {"a": "Train", "b": "val", "c": "test"}
    columns = "name,image,mask,split" if pairs_too else "name,split"
    files = {name: f"images/{name}.png,masks/{name}.png," if pairs_too else "" for name in roles}

    def written(**changed: str) -> Path:
        rows = [f"{name},{files[name]}{role}" for name, role in {**roles, **changed}.items()]
        (pairs / "manifest.csv").write_text("\n".join([columns, *rows]))
        return pairs

    assert folder(written()).roles == ["train", "validation", "test"]
    for word in ("fold2", ""):
        with pytest.raises(DataError, match=r"no part of the split in manifest\.csv .*\(1\): images/b\.png"):
            folder(written(b=word))


def test_a_group_in_two_parts_of_a_split_is_refused(pairs) -> None:
    (pairs / "manifest.csv").write_text("name,group,split\na,p1,train\nb,p1,test\nc,p2,test\n")
    with pytest.raises(DataError, match=r"one group in two parts of the split \(1\): p1: test, train"):
        folder(pairs)
