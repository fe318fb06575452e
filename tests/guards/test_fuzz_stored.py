"""What this package keeps for itself - training states, recoveries, results, headers - with anything in it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_store
import numpy as np
import pytest
import torch
from fuzzing import Edits, edited, edits, json_values, quick, replaced_somewhere, tolerant
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.memo import Ledger
from medcore_prune.benchmarks.experiments.levels import read_sensitivity
from medcore_prune.benchmarks.runner.store import ResultStore, read_arrays
from medcore_prune.calibration.storage import _KEY as STATISTICS_KEY
from medcore_prune.calibration.storage import FilePart
from medcore_prune.checkpoints.header import DIGEST_KEY
from medcore_prune.checkpoints.header import KEY as PRUNED_KEY
from medcore_prune.data.splits.split import split
from medcore_prune.training.loop import TrainState
from medcore_prune.training.settings import RecoverySettings
from medcore_prune.training.store import RecoveryStore

Read = Callable[[Path], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one file of each kind."""
    root = tmp_path_factory.mktemp("stored")
    teacher = tiny_sam()
    mp.save(SMALL, root / "pruned.safetensors")
    mp.calibrate(
        teacher, data={"a": TinySamples("a", 2)}, needs=["directional_zero"], cache_dir=root / "cache", progress=False
    )
    (part,) = (root / "cache").rglob("directional_zero*.safetensors")
    part.rename(root / "statistics.safetensors")
    RecoveryStore(root / "recoveries").recover(SMALL, teacher, _images(), SETTINGS, progress=False)
    bench_store.build(root / "results")
    np.savez_compressed(root / "part.npz", digest="d", values=np.arange(1000))
    _state(root / "state.pt").save()
    return root


SMALL = mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m70"))
SETTINGS = RecoverySettings(steps=1, batch_size=2, validate_every=0)


def read_ledger(path: Path) -> Ledger:
    return Ledger(path, {}, "cells")


def _images() -> mp.data.Split:
    return split({"a": TinySamples("a", 6)}, fractions=(0.5, 0.25, 0.25))


def _state(path: Path) -> TrainState:
    model = torch.nn.Linear(3, 2)
    return TrainState(model, torch.optim.AdamW(model.parameters()), {"steps": 1}, "", path)


@quick
@given(changes=edits)
def test_an_edited_training_state(place: Path, tmp_path: Path, changes: Edits) -> None:
    (path := tmp_path / "state.pt").write_bytes(edited((place / "state.pt").read_bytes(), changes))
    tolerant(_state, path)


@quick
@given(
    entry=st.sampled_from(["belongs_to", "model", "optimizer", "step", "losses", "record", "best_score"]),
    value=json_values,
)
@example(entry="step", value=float("inf"))
def test_a_training_state_with_another_entry(place: Path, tmp_path: Path, entry: str, value: Any) -> None:
    stored = torch.load(place / "state.pt", weights_only=True)
    torch.save({**stored, entry: value}, path := tmp_path / "state.pt")
    tolerant(_state, path)


@quick
@given(changes=edits)
def test_edited_arrays_are_read_or_measured_again(place: Path, tmp_path: Path, changes: Edits) -> None:
    (path := tmp_path / "part.npz").write_bytes(edited((place / "part.npz").read_bytes(), changes))
    found = read_arrays(path, "d")
    assert found is None or np.array_equal(found.get("values", np.arange(1000)), np.arange(1000))


@pytest.mark.parametrize("file", ["history.json", "weights.safetensors"])
@quick
@given(changes=edits)
def test_an_edited_recovery(place: Path, file: str, changes: Edits) -> None:
    (path,) = (place / "recoveries").rglob(file)
    content = path.read_bytes()
    store, (history,) = RecoveryStore(place / "recoveries"), (place / "recoveries").rglob("history.json")
    key = json.loads(history.read_text())["key"]
    path.write_bytes(edited(content, changes))
    try:
        tolerant(lambda model: store._load(key, model), SMALL)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["run.json", "cells", "evaluations"])
@quick
@given(choice=st.integers(0, 10**6), value=json_values)
def test_results_with_another_value_somewhere(place: Path, kind: str, choice: int, value: Any) -> None:
    root = place / "results"
    path = root / kind if kind.endswith(".json") else min((root / kind).rglob("*.json"))
    content = path.read_bytes()
    path.write_text(json.dumps(replaced_somewhere(json.loads(content), choice, value)))
    try:
        tolerant(_all_results, root)
    finally:
        path.write_bytes(content)


def _all_results(root: Path) -> None:
    store = ResultStore.open(root)
    for result in store.cells()[:3]:
        store.evaluation(result.evaluation)


@pytest.mark.parametrize(
    ("file", "key", "read"),
    [
        ("pruned.safetensors", PRUNED_KEY, mp.load),
        ("statistics.safetensors", STATISTICS_KEY, lambda path: mp.Statistics([FilePart(path)])),
    ],
)
@quick
@given(choice=st.integers(0, 10**6), value=json_values)
def test_a_header_with_another_value_somewhere(
    place: Path, tmp_path: Path, file: str, key: str, read: Read, choice: int, value: Any
) -> None:
    with safe_open(place / file, framework="pt") as stored:
        tensors, metadata = {name: stored.get_tensor(name) for name in stored.keys()}, dict(stored.metadata())  # noqa: SIM118
    metadata[key] = json.dumps(replaced_somewhere(json.loads(metadata[key]), choice, value))
    if DIGEST_KEY in metadata:
        # one who changes a header on purpose makes its hash anew
        metadata[DIGEST_KEY] = hashlib.sha256(metadata[key].encode()).hexdigest()
    save_file(tensors, path := tmp_path / file, metadata=metadata)
    tolerant(read, path)


@pytest.mark.parametrize("read", [read_sensitivity, read_ledger, mp.Plan.load])
@quick
@given(value=json_values)
def test_any_json(tmp_path: Path, read: Read, value: Any) -> None:
    (path := tmp_path / "file.json").write_text(json.dumps(value))
    tolerant(read, path)


@pytest.mark.parametrize("read", [read_sensitivity, read_ledger, mp.Plan.load])
def test_json_nested_without_end(tmp_path: Path, read: Read) -> None:
    (path := tmp_path / "file.json").write_text("[" * 200_000)
    with pytest.raises(mp.MedcorePruneError):
        read(path)
