"""What a model was trained on follows it, whatever the images, the sets and the files are called."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.samples import ArraySet, arrays
from medcore_prune.data.splits.beside import after, refuse_seen, split_beside, split_file
from medcore_prune.data.splits.split import Split, split


def some(name: str, first: int = 0, count: int = 10, grown: int = 0) -> ArraySet:
    """Images of noise, each with a square that may be grown by some pixels."""
    images, masks = [], []
    for index in range(first, first + count):
        images.append(np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8))
        mask = np.zeros((32, 32), np.uint8)
        mask[8 - grown : 20 + grown, 6:22] = 1
        masks.append(mask)
    return arrays(name, images, masks, ids=[f"i{index}" for index in range(first, first + count)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that was trained on two sets."""
    place = tmp_path / "model.pth"
    split({"own": some("own"), "more": some("more", 50)}).save(split_file(place))
    return place


def test_an_image_is_known_by_its_pixels_whatever_its_mask_and_its_name(checkpoint: Path) -> None:
    for samples in (some("own", grown=1), some("other", grown=1)):
        with pytest.raises(DataError, match=r"model\.pth was trained on (own|other)/i\d+, .* and \d+ more"):
            refuse_seen({samples.name: samples}, checkpoint)
    known = Split.load(split_file(checkpoint), {"own": some("own"), "more": some("more", 50)})
    refuse_seen(known.test, checkpoint)


def test_a_part_of_the_sets_has_the_split_of_the_whole(checkpoint: Path) -> None:
    whole = Split.load(split_file(checkpoint), {"own": some("own"), "more": some("more", 50)})
    part, known = split_beside({"own": some("own")}, checkpoint, seed=5)
    assert known
    for role, sets in part.roles().items():
        assert {name: list(samples.ids) for name, samples in sets.items()} == {
            name: list(samples.ids) for name, samples in whole.roles()[role].items() if name == "own"
        }
    # what comes of it goes on knowing the other set
    following = checkpoint.with_name("pruned.safetensors")
    part.save(split_file(following))
    with pytest.raises(DataError, match=r"pruned\.safetensors was trained on more/"):
        refuse_seen({"more": some("more", 50)}, following)


def test_a_new_split_does_not_report_on_what_was_trained_on(checkpoint: Path) -> None:
    with pytest.raises(DataError, match=r"model\.pth was trained on mine/"):
        split_beside({"mine": some("own", count=8)}, checkpoint, seed=5)
    with pytest.raises(DataError, match=r"model\.pth was trained on own/"):
        after(split({"own": some("own")}, seed=5), checkpoint)


def test_new_images_get_a_split_that_remembers(checkpoint: Path) -> None:
    made, known = split_beside({"new": some("new", 100)}, checkpoint)
    assert not known
    following = checkpoint.with_name("second.pth")
    made.save(split_file(following))
    assert made.is_stored(split_file(following))
    for name, first in (("own", 0), ("more", 50), ("new", 100)):
        with pytest.raises(DataError, match=rf"second\.pth was trained on {name}/"):
            refuse_seen({name: some(name, first)}, following)


def test_a_folder_is_known_by_its_content_under_another_name(checkpoint: Path) -> None:
    whole = Split.load(split_file(checkpoint), {"own": some("own"), "more": some("more", 50)})
    other = arrays("mine", *zip(*[(s.image, s.mask) for s in reversed(some("own"))], strict=True), groups="abcdefghij")
    found, known = split_beside({"mine": other}, checkpoint, seed=5)
    assert known
    for role, sets in found.roles().items():
        mine = {digest for samples in sets.values() for digest in samples.hashes()}
        assert list(sets) in ([], ["mine"])
        assert mine == set(whole.roles()[role]["own"].hashes())
    refuse_seen(found.test, checkpoint)
    loaded = Split.load(split_file(checkpoint), {"mine": other, "more": some("more", 50)})
    assert loaded.test["mine"].ids == found.test["mine"].ids
    # one image more, and it is another folder
    with pytest.raises(DataError, match=r"model\.pth was trained on mine/"):
        split_beside({"mine": some("mine", count=11)}, checkpoint, seed=5)


def test_a_set_of_which_each_image_is_there_twice_keeps_its_roles(tmp_path: Path) -> None:
    twice = some("own").samples * 2
    doubled = ArraySet("own", tuple(replace(s, name=f"{i}", group=s.group) for i, s in enumerate(twice)))
    split({"own": doubled}).save(split_file(tmp_path / "m.pth"))
    other = ArraySet("other", tuple(replace(s, name=f"x{s.name}") for s in doubled.samples))
    found, known = split_beside({"other": other}, tmp_path / "m.pth")
    assert known
    assert sum(len(sets["other"]) for sets in found.roles().values()) == 20


def test_another_split_is_another(checkpoint: Path) -> None:
    sets = {"own": some("own"), "more": some("more", 50)}
    assert split(sets).is_stored(split_file(checkpoint))
    assert not split(sets, seed=5).is_stored(split_file(checkpoint))
