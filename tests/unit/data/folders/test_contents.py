"""What is hashed is what is read, also where files change behind an open folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.calibration import job as module
from medcore_prune.data.folders import contents
from medcore_prune.data.folders.folder import FolderSet, folder
from medcore_prune.data.samples import Subset, content_hash, image_hash, renew


def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as settled although they were only just written."""
    monkeypatch.setattr(contents, "_SETTLED_NS", -1)


def as_read(found: FolderSet) -> list[str]:
    return [content_hash(sample.image, sample.mask) for sample in found]


@pytest.mark.parametrize("settled", [True, False])
def test_hashes_follow_the_files(pairs: Path, save, picture, square, monkeypatch, settled: bool) -> None:
    if settled:
        aged(monkeypatch)
    found = folder(pairs)
    before = found.hashes()
    assert before == as_read(found)
    save(pairs / "masks" / "b.png", square(x=4))
    save(pairs / "images" / "c.png", picture(9))
    after = found.hashes()
    assert after == as_read(found) == folder(pairs).hashes()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]
    assert found.image_hashes() == [image_hash(sample.image) for sample in found]


def test_a_file_of_the_same_size_and_time_is_seen(pairs: Path, save, square, monkeypatch) -> None:
    aged(monkeypatch)
    (pairs / "masks" / "a.png").unlink()
    place = save(pairs / "masks" / "a.npy", square(x=1))
    found = folder(pairs)
    before, old = found.hashes(), place.stat()
    save(place, square(x=3))
    os.utime(place, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (place.stat().st_size, place.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert found.hashes()[0] != before[0]


def test_only_what_changed_is_read_again(pairs: Path, save, picture, monkeypatch) -> None:
    aged(monkeypatch)
    found = folder(pairs)
    found.hashes()
    read: list[str] = []
    real = contents.read_image
    monkeypatch.setattr(contents, "read_image", lambda path: read.append(path.name) or real(path))
    found.hashes()
    assert not read
    save(pairs / "images" / "b.png", picture(7))
    found.perceptual_hashes()
    assert read == ["b.png"]


def test_what_was_told_is_what_is_read_or_nothing(pairs: Path, save, square) -> None:
    found = folder(pairs)
    part = Subset(found, (1, 2), "part")
    assert found[0].mask.any()
    found.hashes()
    save(pairs / "masks" / "c.png", square(x=5))
    assert part[0].mask.any()
    with pytest.raises(DataError, match=r"c\.png: image or mask changed after the folder was read.*open the folder ag"):
        part[1]
    # work that begins takes the files as they are
    renew(part)
    assert part[1].mask[3, 8]
    assert part.hashes() == [content_hash(sample.image, sample.mask) for sample in part]


def test_a_file_that_is_gone_is_named(pairs: Path) -> None:
    found = folder(pairs)
    found.hashes()
    (pairs / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match=r"cannot be read \(1\): masks/b\.png: no such file"):
        found.hashes()


@pytest.fixture
def drawn(tmp_path: Path, save) -> Path:
    for number in range(4):
        sample = mp.data.phantoms.make("phantom_polyp_a", seed=2, count=4, size=64)[number]
        save(tmp_path / "set" / "images" / f"c{number}.png", sample.image)
        save(tmp_path / "set" / "masks" / f"c{number}.png", sample.mask.astype(np.uint8) * 255)
    return tmp_path / "set"


def flipped(root: Path, save) -> None:
    for place in sorted((root / "masks").iterdir()):
        save(place, np.flipud(mp.data.read_mask(place)).astype(np.uint8) * 255)


def test_sums_of_replaced_images_are_not_kept_under_the_hash_of_others(
    drawn: Path, tmp_path, save, monkeypatch
) -> None:
    model, cache = tiny_sam(), tmp_path / "cache"
    real, calls = module._read, []

    def meanwhile(*given):
        calls.append(given)
        if len(calls) == 2:
            flipped(drawn, save)
        return real(*given)

    monkeypatch.setattr(module, "_read", meanwhile)
    with pytest.raises(DataError, match="changed after the folder was read"):
        mp.calibrate(model, None, {"c": folder(drawn)}, samples=4, batch_size=2, cache_dir=cache, progress=False)
    monkeypatch.undo()
    assert not [path for path in cache.rglob("*.safetensors") if not path.name.startswith("partial")]


def test_the_same_folder_object_is_calibrated_on_its_corrected_masks(drawn: Path, tmp_path, save) -> None:
    model, found = tiny_sam(), folder(drawn)

    def planned(data: FolderSet, cache: str) -> str:
        statistics = mp.calibrate(model, None, {"c": data}, samples=4, cache_dir=tmp_path / cache, progress=False)
        return mp.plan(model, "h50_m50", "zero_fisher", statistics=statistics, protect=0).hash

    before = planned(found, "one")
    flipped(drawn, save)
    assert planned(found, "one") == planned(folder(drawn), "two") != before
