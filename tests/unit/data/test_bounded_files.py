"""Small files that claim any size, and what is no file at all: refused at once, in one line, whatever reads them."""

import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.files import read_json_file
from medcore_prune.data.csv_table import read_table
from medcore_prune.data.images import image_shape, read_image, read_labels, read_mask

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pipes and no device files on Windows")
LIMIT = r"pixels, expected at most 67108864, such as 8192 x 8192: scale it down, or cut it into tiles"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(path: Path) -> None:
    """13,000 x 13,000 pixels of one value in colour, all of them there, in half a megabyte."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * 13000)
    rows = b"".join(packer.compress(row * 100) for _ in range(130)) + packer.flush()
    header = struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))


def tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((9000, 9000), np.uint8), compression="zlib")


def deep_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((9000, 9000, 3), np.uint16)[:, :8000], compression="zlib", photometric="rgb")


def many_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for _ in range(6000):
            file.write(np.zeros((4, 4), np.uint8), contiguous=False, metadata=None)


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "x.png": (png, f"13000 x 13000 {LIMIT}"),
    "x.tif": (tiff, f"9000 x 9000 {LIMIT}"),
    "deep.tif": (deep_tiff, f"8000 x 9000 {LIMIT}"),
    "pages.tif": (many_pages, "holds 10 or more pages"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_of_absurd_size_are_refused_at_once(tmp_path: Path, name: str) -> None:
    make, message = BOMBS[name]
    make(path := tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_image, read_mask, read_labels, image_shape):
        start = time.process_time()
        with pytest.raises(MedcorePruneError, match=message) as refused:
            read(path)
        assert time.process_time() - start < 1
        assert "\n" not in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 15  # KiB


def test_the_largest_image_is_read_in_little_more_memory_than_it_takes(tmp_path: Path) -> None:
    tifffile.imwrite(path := tmp_path / "x.tif", np.arange(2048 * 2048, dtype=np.uint16).reshape(2048, 2048))
    values = read_image(path)
    assert (values.min(), values.max()) == (0, 255)
    whole = tifffile.imread(path).astype(np.float64)
    low, high = whole.min(), whole.max()
    assert np.array_equal(values[:, :, 0], np.rint((whole - low) * (255.0 / (high - low))).astype(np.uint8))


def place(kind: str, path: Path) -> None:
    {
        "pipe": lambda: os.mkfifo(path),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "link to a pipe": lambda: (os.mkfifo(path.with_suffix(".fifo")), path.symlink_to(path.with_suffix(".fifo"))),
    }[kind]()


READERS: dict[str, Callable[[Path], object]] = {
    "x.png": read_image,
    "mask.png": read_mask,
    "labels.png": read_labels,
    "shape.png": image_shape,
    "x.npy": read_image,
    "boxes.csv": mp.data.boxes_from_csv,
    "table.csv": lambda path: read_table(path, ()),
    "plan.json": mp.Plan.load,
    "x.pth": mp.load_checkpoint,
    "x.safetensors": mp.load,
}


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "link to a pipe"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    place(kind, path := tmp_path / name)
    with pytest.raises(MedcorePruneError, match=name) as refused:
        READERS[name](path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
@pytest.mark.parametrize("name", ["images/b.png", "masks/b.png", "manifest.csv"])
def test_a_folder_that_holds_what_is_no_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for each in "ab":
            values = (
                np.arange(64, dtype=np.uint8).reshape(8, 8) if folder == "images" else np.eye(8, dtype=np.uint8) * 255
            )
            Image.fromarray(values).save(tmp_path / folder / f"{each}.png")
    (tmp_path / name).unlink(missing_ok=True)
    place(kind, tmp_path / name)
    with pytest.raises(MedcorePruneError, match="a pipe or a device, and no file"):
        mp.data.folder(tmp_path)


def test_texts_without_end_are_refused_by_their_size(tmp_path: Path) -> None:
    for name in ("x.csv", "x.json"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(1 << 40)
    with pytest.raises(MedcorePruneError, match=r"x\.csv: 1048576 MiB, expected at most 256"):
        mp.data.boxes_from_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="1048576 MiB, expected at most 256"):
        read_json_file(tmp_path / "x.json")
