"""Readers of one's own: docs/extending.md has one, which runs as a test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import medcore_prune as mp
from medcore_prune._support.errors import DataError, RegistryError
from medcore_prune.data.folders.layouts import REGISTRY
from medcore_prune.data.images import image_shape, is_image_file
from medcore_prune.data.readers import READERS, register_reader, suffix_of

Values = npt.NDArray[np.generic]


def raw(path: Path) -> Values:
    side = path.stat().st_size
    return np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(1, side)


@pytest.fixture
def readers() -> Iterator[None]:
    before = READERS.available()
    yield
    for suffix in set(READERS.available()) - set(before):
        READERS.unregister(suffix)


def test_what_is_read_today() -> None:
    lossy = [".jfif", ".jpe", ".jpeg", ".jpg", ".webp"]
    others = [".pbm", ".pgm", ".pnm", ".ppm", ".dcm", ".dicom"]
    assert READERS.available() == sorted([".bmp", ".gif", ".npy", ".png", ".tif", ".tiff", *others, *lossy])
    assert [suffix for suffix in READERS.available() if READERS.get(suffix).lossy] == lossy


def test_the_longest_end_of_a_name_decides(readers: None, tmp_path: Path) -> None:
    register_reader(".raw")(raw)
    register_reader(".raw.gz", lossy=True)(raw)
    assert suffix_of(Path("A.RAW")) == ".raw"
    assert suffix_of(Path("a.raw.gz")) == ".raw.gz"
    assert suffix_of(Path("a.gz")) is None
    assert is_image_file(Path("a.raw"))
    assert not is_image_file(Path(".a.raw"))


def test_masks_and_sizes_may_be_read_in_another_way(readers: None, tmp_path: Path) -> None:
    seen = []

    def shape(path: Path) -> tuple[int, int] | None:
        seen.append(path)
        return (1, 3) if path.stem == "known" else None

    register_reader(".raw", masks=lambda path: raw(path) > 100, shape=shape)(raw)
    for name in ("known.raw", "other.raw"):
        (tmp_path / name).write_bytes(bytes([0, 90, 110, 255]))
    assert mp.data.read_image(tmp_path / "known.raw")[0, :, 0].tolist() == [0, 90, 110, 255]
    assert mp.data.read_mask(tmp_path / "known.raw").tolist() == [[False, False, True, True]]
    assert [image_shape(tmp_path / name) for name in ("known.raw", "other.raw")] == [(1, 3), (1, 4)]
    assert len(seen) == 2


def test_a_lossy_format_is_cut_at_half(readers: None, tmp_path: Path) -> None:
    (tmp_path / "a.soft").write_bytes(bytes([0, 3, 120, 255]))
    register_reader(".soft", lossy=True)(raw)
    assert mp.data.read_mask(tmp_path / "a.soft").tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda path: {}["x"], "could not read it"),
        (lambda path: "text", "values of type <U4, expected numbers"),
        (lambda path: np.zeros((2, 2, 7)), r"expected an image of shape \(H, W\)"),
    ],
)
def test_a_reader_that_fails_is_one_line_with_the_files_name(
    readers: None, tmp_path: Path, made: object, reason: str
) -> None:
    register_reader(".raw")(made)  # type: ignore[arg-type]
    (tmp_path / "a.raw").write_bytes(b"1")
    with pytest.raises(DataError, match=rf"a\.raw: .*{reason}") as caught:
        mp.data.read_image(tmp_path / "a.raw")
    assert "\n" not in str(caught.value)


def test_names_are_checked(readers: None) -> None:
    with pytest.raises(RegistryError, match=r"bad reader name 'nii': expected the end of files' names in lower case"):
        register_reader("nii")(raw)
    with pytest.raises(RegistryError, match=r"reader name '\.png' is taken \(built-in\): choose another"):
        register_reader(".png")(raw)


def test_a_plug_in_brings_reader_and_layout(readers: None, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\nimport medcore_prune as mp\n"
        "from medcore_prune.data.folders.layouts import files_of, pair\n"
        "@mp.data.register_reader('.raw')\n"
        "def raw(path):\n    return np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(2, -1)\n"
        "@mp.data.register_layout('flat', title='x.raw with x_m.raw', matches=lambda root: bool(files_of(root)))\n"
        "def flat(root):\n"
        "    masks = [p for p in files_of(root) if p.stem.endswith('_m')]\n"
        "    images = [p for p in files_of(root) if p not in masks]\n"
        "    return pair([(p.stem, p) for p in images], [(p.stem[:-2], p) for p in masks])\n"
    )
    place = tmp_path / "data"
    place.mkdir()
    (place / "x.raw").write_bytes(bytes(range(8)))
    (place / "x_m.raw").write_bytes(bytes([0, 1, 1, 0] * 2))
    assert mp.load_plugin(tmp_path / "own.py") == [".raw", "flat"]
    try:
        for layout in ("auto", "flat"):
            samples = mp.data.folder(place, layout=layout)
            assert list(samples.ids) == ["x"]
            assert samples[0].mask.sum() == 4
    finally:
        REGISTRY.unregister("flat")
