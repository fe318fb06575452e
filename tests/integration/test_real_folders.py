"""Folders, splits and floors on real images, where they are at hand."""

import shutil
import warnings

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.splits.near_duplicates import NearDuplicateWarning
from medcore_prune.data.splits.split import split
from medcore_prune.evaluation.floors import box_mask
from medcore_prune.evaluation.metrics import evaluate_mask


@pytest.mark.parametrize(
    ("name", "samples", "groups"),
    [("kvasir_seg", 280, 280), ("cvc_clinicdb", 280, 19), ("natural", 912, 556), ("fuseg_crop", 250, 250)],
)
def test_every_set_opens_with_its_groups(real_data, name, samples, groups):
    found = folder(real_data / name)
    assert (found.name, len(found), len(set(found.groups))) == (name, samples, groups)
    sample = found[len(found) // 2]
    assert sample.image.shape == (*sample.mask.shape, 3)
    # the box is tight: filling it covers the mask
    assert not (sample.mask & ~box_mask(sample.box, sample.mask.shape)).any()
    assert evaluate_mask(box_mask(sample.box, sample.mask.shape), sample.mask).iou < 1


def test_masks_of_one_photograph_share_its_group(real_data):
    found = folder(real_data / "natural")
    first = {}
    for group, digest in zip(found.groups, found.image_hashes(), strict=True):
        assert first.setdefault(digest, group) == group


def test_instances_are_samples_of_their_own(real_data):
    found = folder(real_data / "dsb2018_nuclei")
    assert len(set(found.groups)) == 160
    of_first = [i for i, group in enumerate(found.groups) if group == found.groups[0]]
    masks = np.array([found[i].mask for i in of_first])
    assert len(of_first) > 20
    # nuclei do not overlap, and together they are the mask of the image
    whole = folder(real_data / "dsb2018_nuclei", layout="plain")[0]
    np.testing.assert_array_equal(masks.sum(axis=0), whole.mask)


def test_sequences_of_the_published_table_are_those_of_the_manifest(real_data, tmp_path):
    original = folder(real_data / "cvc_clinicdb")
    shutil.copytree(real_data / "cvc_clinicdb", tmp_path / "cvc", ignore=shutil.ignore_patterns("*.csv"))
    by_number = folder(tmp_path / "cvc", layout="cvc_clinicdb")
    assert list(by_number.groups) == list(original.groups)


def test_different_photographs_raise_no_alarm_of_near_duplicates(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NearDuplicateWarning)
        split({name: folder(real_data / name) for name in ("kvasir_seg", "cvc_clinicdb", "fuseg_crop")}, seed=0)


def test_polyp_sets_split_without_sharing_a_sequence(real_data):
    parts = split({name: folder(real_data / name) for name in ("kvasir_seg", "cvc_clinicdb")}, seed=0)
    assert [len(part["kvasir_seg"]) for part in parts.roles().values()] == [196, 28, 56]
    groups = [set(part["cvc_clinicdb"].groups) for part in parts.roles().values()]
    assert sum(map(len, groups)) == 19


def test_the_same_folder_as_two_sets_is_refused(real_data):
    with pytest.raises(DataError, match=r"the same image in two roles or two data sets.*and 260 more"):
        split({"one": folder(real_data / "kvasir_seg"), "two": folder(real_data / "kvasir_seg")})
