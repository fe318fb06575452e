"""Splits by group: deterministic, exact about what is in them, and no image in two places."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.samples import Sample, Subset, content_hash
from medcore_prune.data.splits.manifest import ROLES
from medcore_prune.data.splits.split import Split, check_roles, split


@dataclass
class Memory:
    """Samples made of a number each; `groups` gives their groups."""

    name: str
    numbers: list
    groups: list = field(default_factory=list)

    def __post_init__(self):
        self.groups = self.groups or self.ids

    @property
    def ids(self):
        return [f"i{number:03d}" for number in self.numbers]

    def __len__(self):
        return len(self.numbers)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        image = np.random.default_rng(self.numbers[index]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mask = np.eye(32, dtype=bool)
        return Sample(self.name, self.ids[index], image, mask, (0.0, 0.0, 31.0, 31.0), self.groups[index])

    def hashes(self):
        return [content_hash(sample.image, sample.mask) for sample in self]


def members(parts, name):
    return {role: list(part[name].ids) for role, part in parts.roles().items()}


SINGLES = Memory("singles", list(range(40)))
VIDEOS = Memory("videos", list(range(100, 160)), [f"v{i // 6}" for i in range(60)])


def test_shares_groups_and_completeness():
    parts = split({"singles": SINGLES, "videos": VIDEOS}, seed=3)
    assert [len(part["singles"]) for part in parts.roles().values()] == [28, 4, 8]
    # 10 videos of 6 images: 42, 6, 12 is what 7, 1 and 2 of them give
    assert [len(part["videos"]) for part in parts.roles().values()] == [42, 6, 12]
    groups = [set(part["videos"].groups) for part in parts.roles().values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    everyone = [name for names in members(parts, "videos").values() for name in names]
    assert sorted(everyone) == VIDEOS.ids


def test_the_draw_depends_on_seed_and_names_not_on_the_order_of_files():
    order = np.random.default_rng(0).permutation(60)
    shuffled = Memory("videos", [VIDEOS.numbers[i] for i in order], [VIDEOS.groups[i] for i in order])
    first, again, other = split({"videos": VIDEOS}), split({"videos": shuffled}), split({"videos": VIDEOS}, seed=1)
    for role in ROLES:
        assert set(members(first, "videos")[role]) == set(members(again, "videos")[role])
    assert members(first, "videos") != members(other, "videos")
    # a data set's split does not depend on which others are there
    assert members(split({"singles": SINGLES, "videos": VIDEOS}), "videos") == members(first, "videos")


def test_every_role_gets_a_group_when_they_are_few():
    lopsided = Memory("few", list(range(20)), ["big"] * 18 + ["small", "tiny"])
    for seed in range(10):
        parts = split({"few": lopsided}, seed=seed)
        assert all(len(part["few"]) for part in parts.roles().values())


def test_fractions_of_zero_leave_a_role_out():
    parts = split({"singles": SINGLES}, fractions=(0.5, 0.0, 0.5))
    assert (len(parts.train["singles"]), parts.validation, len(parts.test["singles"])) == (20, {}, 20)


def test_samples_are_those_of_the_set_under_the_name_of_the_split():
    part = split({"renamed": SINGLES}).test["renamed"]
    sample = part[0]
    assert (part.name, sample.dataset, sample.name) == ("renamed", "renamed", part.ids[0])
    np.testing.assert_array_equal(sample.image, SINGLES[SINGLES.ids.index(sample.name)].image)
    assert part.hashes()[0] == content_hash(sample.image, sample.mask)
    assert [s.name for s in part] == list(part.ids)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_fractions_that_are_none(fractions):
    with pytest.raises(DataError, match="expected three fractions for train, validation, test that sum to 1"):
        split({"singles": SINGLES}, fractions=fractions)


def test_too_few_groups():
    with pytest.raises(DataError, match="videos: expected at least 3 groups for train, validation, test, got 1"):
        split({"videos": Memory("videos", [1, 2, 3], ["v"] * 3)})


def test_names_used_twice():
    with pytest.raises(DataError, match="expected unique sample names, i001 come twice"):
        split({"double": Memory("double", [1, 1, 2, 3])})


def test_the_same_image_in_two_data_sets_names_both():
    other = Memory("other", [7, *range(200, 240)])
    with pytest.raises(DataError, match=r"two data sets: (singles|other)/i007 \(\w+\) = (singles|other)/i007 \("):
        split({"singles": SINGLES, "other": other})


def test_the_same_image_in_two_roles_names_both_even_under_another_mask():
    twin = Memory("singles", [1, 2])
    with pytest.raises(DataError, match=r"two roles.*singles/i001 \(train\) = singles/i001 \(test\)"):
        check_roles({"train": {"singles": twin}, "test": {"singles": Subset(SINGLES, (1,), "singles")}})


def test_the_same_group_in_two_roles_names_it():
    parts = {"train": {"videos": Subset(VIDEOS, (0,), "videos")}, "test": {"videos": Subset(VIDEOS, (1,), "videos")}}
    with pytest.raises(DataError, match=r"same group in two roles: videos/v0 \(train and test\)"):
        check_roles(parts)


def test_calibration_is_drawn_from_train_and_grows():
    parts = split({"singles": SINGLES, "videos": VIDEOS})
    small, large = parts.calibration(8, seed=5), parts.calibration(16, seed=5)
    assert {name: len(part) for name, part in small.items()} == {"singles": 8, "videos": 8}
    assert set(large["singles"].ids) <= set(parts.train["singles"].ids)
    assert list(large["singles"].ids)[:8] == list(small["singles"].ids)
    assert list(parts.calibration(8, seed=6)["singles"].ids) != list(small["singles"].ids)
    assert len(parts.calibration(1000)["singles"]) == 28
    with pytest.raises(DataError, match="at least 1 calibration sample"):
        parts.calibration(0)


def test_a_saved_split_comes_back(tmp_path):
    sets = {"singles": SINGLES, "videos": VIDEOS}
    parts = split(sets, seed=4)
    parts.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json", sets)
    assert (again.seed, again.fractions) == (4, (0.7, 0.1, 0.2))
    for name in sets:
        assert members(again, name) == members(parts, name)


def test_a_loaded_split_must_be_of_the_same_data(tmp_path):
    path = tmp_path / "split.json"
    split({"singles": SINGLES}).save(path)
    with pytest.raises(DataError, match="expected the same data sets, differ in singles, videos"):
        Split.load(path, {"videos": VIDEOS})
    with pytest.raises(DataError, match="missing in singles: i039; new in singles: i300"):
        Split.load(path, {"singles": Memory("singles", [*range(39), 300])})
    changed = Memory("singles", list(range(40)))
    changed.hashes = lambda: ["0", *SINGLES.hashes()[1:]]
    with pytest.raises(DataError, match="changed in singles: i000"):
        Split.load(path, {"singles": changed})
    with pytest.raises(DataError, match="same group in two roles"):
        Split.load(path, {"singles": Memory("singles", list(range(40)), ["one"] * 40)})


def test_a_manifest_edited_into_two_roles_is_refused(tmp_path):
    path = tmp_path / "split.json"
    split({"singles": SINGLES}).save(path)
    stored = json.loads(path.read_text())
    stored["test"]["singles"].update(stored["train"]["singles"])
    path.write_text(json.dumps(stored))
    with pytest.raises(DataError, match="in two roles in singles"):
        Split.load(path, {"singles": SINGLES})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99, "seed": 0}'])
def test_files_that_are_no_manifest(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"split\.json: expected a split manifest"):
        Split.load(path, {})
