"""The same commands twice give the same files; two threads give the same within rounding; seeds are local."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp

# relative to the largest weight of a tensor, after calibration, cut, correction and recovery
WEIGHTS_TOLERANCE = 1e-3
# Dice, IoU and Boundary F1 of an image
METRICS_TOLERANCE = 0.02

# Children of one process, which has imported everything. Threads wait without spinning: other tests run beside these.
RUNS = """
import os, sys, traceback
from pathlib import Path
import torch
from pocket_pair import write_pair
from tiny import tiny_sam
import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.benchmarks.experiments import baselines
from medcore_prune.commands.work import evaluate, phantoms, prune, recover

whole, sets = ["whole.safetensors", "--reference", "reference.safetensors"], ["--data", "own=set"]
COMMANDS = (
    (cli, ["phantoms", "--count", "12", "--size", "48", "--out", "set"]),
    (cli, ["prune", *whole, *sets, "--calibration", "4", "--correct", "--cache", "cache", "--plan-out", "plan.json",
           "--out", "small.safetensors"]),
    (cli, ["recover", "small.safetensors", "--teacher", "whole.safetensors", *sets, "--steps", "4",
           "--validate-every", "2", "--precision", "fp32", "--out", "recovered.safetensors"]),
    (cli, ["evaluate", "recovered.safetensors", "small.safetensors", "--against", "whole.safetensors", *sets, "--out",
           "evaluation"]),
    (bench, ["baselines", "--quick", "--set", "images=1", "--set", "calibration=1", "--set", "eval_size=32",
             "--levels", "h50_m70",
             "--methods", "magnitude,directional_zero", "--no-correct", "--no-gallery", "--out", "bench"]),
)


def everything():
    mp.save(tiny_sam(0), "whole.safetensors")
    mp.save(tiny_sam(1), "reference.safetensors")
    pair = write_pair(Path("."))
    for group, words in COMMANDS:
        group([*words, *(pair if group is bench else [])], standalone_mode=False)


for name, threads in (("first", 1), ("second", 1), ("two", 2)):
    Path(name).mkdir()
    if not (child := os.fork()):
        try:
            os.chdir(name)
            torch.set_num_threads(threads)
            everything()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the commands leave twice on one thread, and on two."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on Windows")
    place = tmp_path_factory.mktemp("runs")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUNS], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return place


MEASURED = ("seconds", "peak_bytes", "content_sha256", "sha256")


def without_measured(value: Any) -> Any:
    """JSON without times and memory, which are measured, and hashes of files that hold them."""
    if isinstance(value, dict):
        return {name: without_measured(child) for name, child in value.items() if name not in MEASURED}
    return [without_measured(child) for child in value] if isinstance(value, list) else value


def said_by(place: Path) -> dict[str, Any]:
    """Everything that a run wrote, by name: JSON without what is measured, other files as they are."""
    kinds = {".json", ".csv", ".md", ".safetensors"}
    files = [path for path in place.rglob("*") if path.suffix in kinds and ".lock" not in path.name]
    return {str(path.relative_to(place)): _content(path) for path in sorted(files)}


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return without_measured(json.loads(path.read_text()))
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            header = {
                name: without_measured(json.loads(text)) for name, text in file.metadata().items() if text[0] == "{"
            }
        return header, {name: value.numpy().tobytes() for name, value in load_file(path).items()}
    return path.read_text()


def test_the_same_commands_twice_leave_the_same_files(runs: Path) -> None:
    first, second = said_by(runs / "first"), said_by(runs / "second")
    assert first.keys() == second.keys()
    assert {"plan.json", "small.safetensors", "recovered.safetensors", "bench/comparison.csv"} <= first.keys()
    # the report says how long it took
    different = [name for name in first if first[name] != second[name] and name != "bench/report.md"]
    assert different == []


def test_two_threads_give_the_same_within_rounding(runs: Path) -> None:
    both = [runs / "first", runs / "two"]
    plans = [(place / "plan.json").read_text() for place in both]
    assert plans[0] == plans[1]
    for name in ("small.safetensors", "recovered.safetensors"):
        one, two = (load_file(place / name) for place in both)
        for key, value in one.items():
            scale = float(value.abs().max())
            assert float((value - two[key]).abs().max()) <= WEIGHTS_TOLERANCE * scale, key
    for name, metrics in (("evaluation/images.csv", ["dice", "iou", "bf1"]), ("bench/comparison.csv", [])):
        one, two = (pd.read_csv(place / name) for place in both)
        for column in metrics or one.select_dtypes("number").columns:
            assert np.allclose(one[column], two[column], rtol=METRICS_TOLERANCE, atol=METRICS_TOLERANCE, equal_nan=True)


def everything(place: Path) -> mp.Plan:
    """A call of each part of the library that draws, trains or measures."""
    model, reference = tiny_sam(0), tiny_sam(1)
    roles = mp.data.split({"a": TinySamples("a", 8)}, seed=3)
    statistics = mp.calibrate(model, reference, roles, samples=4, cache_dir=place, progress=False, seed=1)
    mp.plan(model, "h50_m50", "random", seed=2)
    plan = mp.plan(model, "h50_m50", "medcore", statistics=statistics)
    small = mp.prune(model, plan)
    mp.correct(small, model, roles, samples=2, progress=False)
    mp.recover(small, model, roles, mp.RecoverySettings(steps=2, batch_size=2, validate_every=1), progress=False)
    mp.evaluate(small, roles, progress=False)
    mp.automatic_plan(model, "params=30%", "magnitude", data={"a": TinySamples("a", 2)}, samples=2)
    mp.load_sam("pocket", seed=5)
    mp.data.phantoms.make("phantom_skin", seed=1, count=1, size=48)[0]
    mp.save(small, place / "small.safetensors")
    mp.load(place / "small.safetensors")
    return plan


def test_seeds_are_local(tmp_path: Path) -> None:
    # rich draws a number while it is imported
    assert all(hasattr(mp, name) for name in mp.__all__)
    plans = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()
        plans.append(everything(tmp_path / str(seed)))
        assert random.getstate() == before[0]
        assert repr(np.random.get_state()) == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    assert plans[0] == plans[1]
