"""Files are written to the byte as they always were, and read again."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune.benchmarks.runner.store import Cell, CellResult, ResultStore
from medcore_prune.calibration.storage import FilePart, Header, write_part
from medcore_prune.checkpoints.header import KEY, PrunedHeader
from medcore_prune.pruning.plan import BlockPlan
from medcore_prune.training.recover import RecoveryHistory

PLAN = mp.Plan("h50_m50", (BlockPlan(0, 4, 6, (0, 2), (1, 2, 3)),), "zero", protected=(0,), notes={"seed": 3})
PLAN_TEXT = """{
 "format": "medcore_prune.plan/1",
 "level": "h50_m50",
 "criterion": "zero",
 "quotas": "",
 "protected": [
  0
 ],
 "only": null,
 "notes": {
  "seed": 3
 },
 "effective": {
  "heads": 0.5,
  "neurons": 0.5
 },
 "blocks": [
  {
   "block": 0,
   "heads": 4,
   "neurons": 6,
   "keep_heads": "0, 2",
   "keep_neurons": "1-3"
  }
 ]
}
"""


def test_a_plan() -> None:
    assert PLAN.to_json() == PLAN_TEXT
    assert mp.Plan.from_json(PLAN_TEXT) == PLAN
    assert PLAN.hash == "1807fc67527a5d2ed9c5e6dbf1022d4423e9b51c10f674a79c49150db3c8456d"


def test_a_header_of_a_pruned_model() -> None:
    header = PrunedHeader("mine", None, PLAN, {"z": [1, 2.5], "a": None}, "0" * 64, {})
    text = header.encode()[KEY]
    assert text == json.dumps(
        {
            "format": "medcore_prune.model/1",
            "kind": "mine",
            "model_hash": "0" * 64,
            "plan": json.loads(PLAN_TEXT),
            "protocol": {},
            "provenance": {"a": None, "z": [1, 2.5]},
            "shape": None,
        },
        sort_keys=True,
    )
    assert PrunedHeader.decode("x", header.encode()) == header


def test_a_split(tmp_path: Path) -> None:
    sets = {"a": TinySamples("a", 4)}
    made = mp.data.split(sets, seed=2, fractions=(0.5, 0.25, 0.25))
    made.save(path := tmp_path / "split.json")
    stored = json.loads(text := path.read_text())
    assert text == json.dumps(stored, indent=1, sort_keys=True) + "\n"
    assert list(stored) == ["format", "fractions", "perceptual", "seed", "seen", "test", "train", "validation"]
    assert (stored["format"], stored["seed"], stored["fractions"]) == (1, 2, [0.5, 0.25, 0.25])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "fbb37a3ac0a52e5e"
    assert made.is_stored(path)
    for name in ("perceptual", "seen"):
        # as the first manifests were
        del stored[name]
    path.write_text(json.dumps(stored))
    assert mp.data.Split.load(path, sets).train["a"].ids == made.train["a"].ids


def test_statistics(tmp_path: Path) -> None:
    header = Header("fisher", "adapted", "a", (("1.png", "ab"),), band_radius_px=3, model_hash="m")
    write_part(path := tmp_path / "part.safetensors", header, {"x": torch.ones(2)}, progress=1)
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["medcore_prune"]
    assert text == (
        '{"format": 2, "header": {"kind": "fisher", "role": "adapted", "dataset": "a", "samples": [["1.png", "ab"]], '
        '"losses": ["plain", "band"], "band_radius_px": 3, "model_hash": "m", "precision": "fp32", '
        f'"reference_hash": ""}}, "count": 1, "data_hash": "{header.data_hash}", "progress": 1, '
        '"checksums": {"x": 3573961104}}'
    )
    part = FilePart(path)
    assert part.header == header
    write_part(again := tmp_path / "again.safetensors", part.header, {"x": part.tensor("x")}, progress=1)
    assert again.read_bytes() == path.read_bytes()
    # an earlier version said whether it was mixed
    for mixed, precision in (("true", "bf16"), ("false", "fp32")):
        earlier = text.replace('"precision": "fp32"', f'"mixed_precision": {mixed}')
        save_file({"x": torch.ones(2)}, path, metadata={"medcore_prune": earlier})
        assert FilePart(path).header == replace(header, precision=precision)


def test_a_history() -> None:
    frame, looks = pd.DataFrame({"step": [1], "loss": [0.5]}), pd.DataFrame({"step": [0], "bf1": [0.25]})
    values = RecoveryHistory(frame, looks, None, False, 1.5).to_dict()
    assert json.dumps(values, sort_keys=True) == (
        '{"best_step": null, "frame": {"columns": ["step", "loss"], "data": [[1, 0.5]]}, '
        '"outcome": "the last weights are returned", "seconds": 1.5, '
        '"stopped_early": false, "validations": {"columns": ["step", "bf1"], "data": [[0, 0.25]]}}'
    )
    again = RecoveryHistory.from_dict(json.loads(json.dumps(values)))
    pd.testing.assert_frame_equal(again.frame, frame)
    pd.testing.assert_frame_equal(again.validations, looks)
    # a history of an earlier version says no outcome, which follows from its best step
    del values["outcome"]
    assert RecoveryHistory.from_dict(values).outcome == again.outcome


def test_results(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, {"identity": {}})
    cell = Cell("baselines", "own", "medcore", "h50_m70", "a", 0)
    result = CellResult(cell, "k", {"dice": 0.5}, {"one": 1}, 4, cost={"params": 7}, inputs={"a": None})
    store.write(result)
    assert (
        hashlib.sha256((tmp_path / cell.path).read_bytes()).hexdigest()
        == "c509ea737b3f11ae5150e40b67f3cd70812dc87aa8e56522d66edca95e33f941"
    )
    assert store.read(cell) == result
    assert type(store.read(cell).cost["params"]) is int
