"""Files and strings of any content: read, or refused with one of this package's own errors and nothing else."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import Edits, edited, edits, json_values, quick, replaced_somewhere, tolerant
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune.calibration.storage import FilePart
from medcore_prune.checkpoints.sam import read_state_dict
from medcore_prune.data.images import read_image, read_labels, read_mask
from medcore_prune.data.prompts import boxes_from_csv
from medcore_prune.data.splits.beside import split_file
from medcore_prune.data.splits.split import Split, split

SETS = {"a": TinySamples("a", 12)}


@dataclass(frozen=True)
class Kind:
    """A file that is well, and what reads such files."""

    content: bytes = field(repr=False)
    read: Callable[[Path], Any]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    """Name of a kind of file to one that is well, and what reads it."""
    place = tmp_path_factory.mktemp("valid")
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m70")
    plan.save(place / "plan.json")
    mp.save(mp.prune(model, plan), place / "small.safetensors")
    torch.save(model.state_dict(), place / "weights.pth")
    statistics = mp.calibrate(
        model, data={"a": TinySamples("a", 2)}, needs=["directional_zero"], cache_dir=place / "cache", progress=False
    )
    assert statistics.datasets == ["a"]
    (part,) = (place / "cache").rglob("directional_zero*.safetensors")
    split(SETS).save(manifest := split_file(place / "model.pth"))
    (place / "boxes.csv").write_text("name,x0,y0,x1,y1\na,1,2,30,40\nb,3,4,5,6.5\n")
    picture = (np.arange(20 * 24 * 3) % 251).astype(np.uint8).reshape(20, 24, 3)
    for kind in ("png", "jpg", "tif", "bmp"):
        Image.fromarray(picture).save(place / f"picture.{kind}")
    np.save(place / "picture.npy", picture)
    files: dict[str, tuple[Path, Callable[[Path], Any]]] = {
        "plan": (place / "plan.json", mp.Plan.load),
        "pruned": (place / "small.safetensors", mp.load),
        "weights": (place / "weights.pth", read_state_dict),
        "statistics": (part, _all_tensors),
        "split": (manifest, lambda path: Split.load(path, SETS)),
        "boxes": (place / "boxes.csv", boxes_from_csv),
        **{f"image {kind}": (place / f"picture.{kind}", _as_all) for kind in ("png", "jpg", "tif", "bmp", "npy")},
    }
    for path, read in files.values():
        read(path)
    return {name: Kind(path.read_bytes(), read) for name, (path, read) in files.items()}


def _all_tensors(path: Path) -> None:
    part = FilePart(path)
    for name in list(part.names):
        part.tensor(name)


def _as_all(path: Path) -> None:
    for read in (read_image, read_mask, read_labels):
        tolerant(read, path)
    read_image(path)


KINDS = {
    "plan": ".json",
    "pruned": ".safetensors",
    "weights": ".pth",
    "statistics": ".safetensors",
    "split": ".json",
    "boxes": ".csv",
    "image png": ".png",
    "image jpg": ".jpg",
    "image tif": ".tif",
    "image bmp": ".bmp",
    "image npy": ".npy",
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what it leaves out
@pytest.mark.parametrize("kind", KINDS)
@quick
@given(changes=edits)
def test_an_edited_file(kind: str, valid: dict[str, Kind], tmp_path: Path, changes: Edits) -> None:
    (path := tmp_path / f"file{KINDS[kind]}").write_bytes(edited(valid[kind].content, changes))
    tolerant(valid[kind].read, path)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(content=st.binary(max_size=200))
def test_a_file_of_anything(kind: str, valid: dict[str, Kind], tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / f"file{KINDS[kind]}").write_bytes(content)
    tolerant(valid[kind].read, path)


@pytest.mark.parametrize("kind", ["plan", "split"])
@quick
@given(choice=st.integers(0, 10**6), value=json_values)
def test_a_json_file_with_another_value_somewhere(
    kind: str, valid: dict[str, Kind], tmp_path: Path, choice: int, value: Any
) -> None:
    content = replaced_somewhere(json.loads(valid[kind].content), choice, value)
    (path := tmp_path / "file.json").write_text(json.dumps(content))
    tolerant(valid[kind].read, path)


@pytest.mark.parametrize("parse", [mp.Level.parse, mp.Target.parse, mp.Need, mp.get_criterion, mp.get_baseline])
@quick
@given(text=st.text(max_size=30) | st.from_regex(r"[hm]?-?[0-9._e+]{1,12}_?[hm=%]?[0-9.]{0,6}", fullmatch=True))
def test_any_text(parse: Callable[[str], Any], text: str) -> None:
    tolerant(parse, text)


@quick
@given(
    rows=st.lists(
        st.lists(
            st.sampled_from(["i.png", "m.png", "images/i.png", "../i.png", "/"]) | st.text(max_size=6), max_size=5
        ),
        max_size=4,
    ),
    columns=st.permutations(["image", "mask", "name", "group"]),
)
def test_any_manifest(tmp_path: Path, rows: list[list[str]], columns: list[str]) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = np.zeros((4, 4), dtype=np.uint8) + (name == "masks")
        Image.fromarray(pixels).save(tmp_path / name / "i.png")
    lines = [",".join(columns), *(",".join(row) for row in rows)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    with contextlib.suppress(mp.MedcorePruneError):
        assert len(mp.data.folder(tmp_path)) >= 1


@quick
@given(rows=st.lists(st.lists(st.text(max_size=6) | st.floats().map(str), max_size=6), max_size=5))
def test_any_table_of_boxes(tmp_path: Path, rows: list[list[str]]) -> None:
    lines = ["name,x0,y0,x1,y1", *(",".join(row) for row in rows)]
    (path := tmp_path / "boxes.csv").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    tolerant(boxes_from_csv, path)
