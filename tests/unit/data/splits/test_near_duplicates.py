"""Images that look the same in two roles are named, other images are not."""

import json
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from forked import run_script
from PIL import Image
from tiny_samples import Fixed

from medcore_prune.data import phantoms
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.samples import Sample, perceptual_hash
from medcore_prune.data.splits.beside import refuse_seen, split_file
from medcore_prune.data.splits.near_duplicates import (
    LARGEST_DISTANCE,
    Look,
    NearDuplicateWarning,
    near_pairs,
    warn_between_roles,
)
from medcore_prune.data.splits.split import Split, split

Pixels = npt.NDArray[np.uint8]


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def resaved(image: Pixels) -> Pixels:
    Image.fromarray(image).save(stream := BytesIO(), "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def scene(seed: int, size: int = 64) -> Pixels:
    return phantoms.make("phantom_polyp_a", seed=seed, count=1, size=size)[0].image


def a_set(name: str, images: dict[str, Pixels]) -> Fixed:
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:40, 20:40] = True
    made = [Sample(name, key, image, mask[: len(image)], (20, 20, 39, 39), key) for key, image in images.items()]
    return Fixed(made)


def test_the_hash_outlives_what_keeps_the_look_and_tells_images_apart() -> None:
    image = scene(0, 128)
    brighter = np.clip(image.astype(np.int64) * 11 // 10, 0, 255).astype(np.uint8)
    for alike in (resaved(image), image[::2, ::2], brighter):
        assert distance(perceptual_hash(image), perceptual_hash(alike)) <= LARGEST_DISTANCE
    for other in (scene(1, 128), image[:, ::-1], 255 - image):
        assert distance(perceptual_hash(image), perceptual_hash(other)) > LARGEST_DISTANCE
    assert len(perceptual_hash(np.zeros((3, 5, 3), dtype=np.uint8))) == 64


def test_pairs_are_those_of_the_slow_count() -> None:
    rng = np.random.default_rng(0)
    centre = rng.integers(0, 256, 32, dtype=np.uint8)
    looks = []
    for index in range(60):
        flips = rng.random(256) < rng.uniform(0, 0.12)
        bits = np.unpackbits(centre) ^ flips
        bits[-1] = 0
        looks.append(Look(str(index), np.packbits(bits).tobytes().hex()))
    first, second = looks[:35], looks[35:]
    found = {(int(i), int(j)) for block in near_pairs(first, second) for i, j in block}
    slow = {
        (i, j)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
        if distance(one.digest, other.digest) <= LARGEST_DISTANCE
    }
    assert found == slow
    assert 0 < len(slow) < 35 * 25
    assert list(near_pairs([], second)) == []


def test_near_duplicates_in_two_roles_are_named_and_counted_once() -> None:
    images = {f"i{seed}": scene(seed) for seed in range(5)}
    copies = {f"copy_of_{name}": resaved(image) for name, image in images.items()}
    roles = {"train": {"a": a_set("a", images)}, "test": {"a": a_set("a", copies)}}
    with pytest.warns(NearDuplicateWarning) as said:
        warn_between_roles(roles)
    (message,) = [str(each.message) for each in said]
    assert "5 pairs: a/i0 (train) ~ a/copy_of_i0 (test), " in message
    assert " and 2 more; " in message
    assert "manifest.csv" in message


def test_split_and_its_manifest_warn(tmp_path: Path) -> None:
    images = {f"i{seed}": scene(seed) for seed in range(6)}
    images |= {f"j{seed}": resaved(scene(seed)) for seed in range(6)}
    sets = {"a": a_set("a", images)}
    with pytest.warns(NearDuplicateWarning):
        made = split(sets)
    made.save(tmp_path / "split.json")
    with pytest.warns(NearDuplicateWarning):
        Split.load(tmp_path / "split.json", sets)


def test_phantoms_raise_no_alarm() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NearDuplicateWarning)
        for name in phantoms.available():
            sets = {role: {name: phantoms.make(name, seed=seed, count=20, size=64)} for seed, role in enumerate("ab")}
            warn_between_roles(sets)


def test_images_that_look_like_those_of_training_are_named_in_another_set(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pth"
    images = {f"i{seed}": scene(seed) for seed in range(6)}
    made = split({"own": a_set("own", images)})
    made.save(split_file(checkpoint))
    trained = made.train["own"].ids[0]
    other = {"other": a_set("other", {"z": resaved(images[trained])})}
    with pytest.warns(
        NearDuplicateWarning, match=rf"own/{trained} \(trained on, .*model\.pth\) ~ other/z \(reported\)"
    ):
        refuse_seen(other, checkpoint)
    # a manifest from before there were perceptual hashes
    stored = json.loads(split_file(checkpoint).read_text())
    del stored["perceptual"], stored["seen"]
    split_file(checkpoint).write_text(json.dumps(stored))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NearDuplicateWarning)
        refuse_seen(other, checkpoint)


def test_ten_thousand_images_fit() -> None:
    rng = np.random.default_rng(0)
    looks = [Look(str(index), rng.bytes(31).hex() + "00") for index in range(10_000)]
    assert sum(len(block) for block in near_pairs(looks[:7000], looks[7000:])) == 0


def test_a_command_says_it_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for seed in range(6):
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[20:40, 20 + seed : 40] = 255
        for name, image in ((f"i{seed}", scene(seed)), (f"j{seed}", resaved(scene(seed)))):
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    with pytest.warns(NearDuplicateWarning):
        split({"a": folder(root)})
    code = (
        "import sys, click\nfrom medcore_prune.commands.group import run\n"
        "from medcore_prune.data import folder, split\n"
        "place = sys.argv.pop()\nrun(click.Command('x', callback=lambda: split({'a': folder(place)}) and None))"
    )
    done = run_script(code, str(root))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: near duplicates across roles, ")
