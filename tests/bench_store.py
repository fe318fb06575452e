"""A small results folder with made-up numbers, as `medcore-bench baselines` would leave it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medcore_prune.benchmarks.runner.jobs import plan_path
from medcore_prune.benchmarks.runner.store import NO_LEVEL, Cell, CellResult, Evaluation, ResultStore, evaluation_key
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.planning import make_plan

GROUPS = {"set_a": ["v1", "v1", "v2", "v3"], "set_b": ["p", "q", "r"]}
LEVELS = ("h40_m30", "h84_m95")
METHODS = {
    "random": {"stochastic": True, "calibrated": False, "cost": "free"},
    "zero_fisher": {"stochastic": False, "calibrated": True, "cost": "calibration"},
    "medcore": {"stochastic": False, "calibrated": True, "cost": "calibration"},
}
# what every image of a row scores, before the noise
QUALITY = {"floor_box": 0.4, "floor_ellipse": 0.5, "unpruned": 0.9, "random": 0.3, "zero_fisher": 0.6, "medcore": 0.7}


def run_record(**more: object) -> dict[str, object]:
    """What `run.json` holds."""
    identity = {"model": "pocket", "image_size": 96, "role": "test", "calibration_samples": 4}
    return {
        "identity": identity,
        "notice": "made up",
        "subject": "medcore",
        "methods": METHODS,
        "draws": 300,
        "device": "cpu",
        "adapted": "a.pth",
        "reference": "b.pth",
        **more,
    }


def images(dataset: str, quality: float, seed: int) -> pd.DataFrame:
    """Per-image metrics around a quality; the first image of `set_b` has one empty mask below 0.35."""
    rng = np.random.default_rng([seed, len(dataset), round(100 * quality)])
    count = len(GROUPS[dataset])
    values = quality + 0.02 * rng.standard_normal(count)
    empty = ["one" if quality < 0.35 and dataset == "set_b" and i == 0 else "none" for i in range(count)]
    return pd.DataFrame(
        {
            "dataset": dataset,
            "name": [f"{i:03d}" for i in range(count)],
            "group": GROUPS[dataset],
            "dice": values,
            "iou": values - 0.1,
            "bf1": values - 0.2,
            "bf1_1px": values - 0.3,
            "bf1_3px": values - 0.1,
            "hd95_px": 50 * (1 - values),
            "hd95_percent": 10 * (1 - values),
            "empty": empty,
        }
    )


def add(
    store: ResultStore,
    mode: str,
    level: str,
    method: str,
    seed: int = 0,
    plan: str = "",
    quality: float | None = None,
    removed: float = 0.6,
) -> None:
    """Store the cells of one row, by default of its method's quality."""
    value = QUALITY[method] if quality is None else quality
    for dataset in GROUPS:
        key = evaluation_key(of=[mode, level, method, seed, dataset])
        done = Evaluation(key, images(dataset, value, seed), 0.1)
        store.write_evaluation(done, {})
        cost = {"params": 1e6 * (1 - removed), "flops": 1e9, "params_removed": removed, "flops_removed": 0.5}
        if method.startswith("floor"):
            cost = {}
        cell = Cell("baselines", mode, method, level, dataset, seed)
        seconds = {"scoring": 0.5, "evaluation": 0.1}
        store.write(CellResult(cell, key, done.metrics, done.empty, len(done.images), plan, cost, seconds, 2_000_000))


def of_experiment(
    root: Path, experiment: str, modes: dict[str, str], methods: Sequence[str], subject: str
) -> ResultStore:
    """Begin a folder of another experiment, with what is not pruned in it."""
    identity = {"experiment": experiment, **run_record()["identity"]}  # type: ignore[dict-item]
    about = dict.fromkeys(methods, METHODS["zero_fisher"])
    data = {name: {"images": len(of), "groups": len(set(of))} for name, of in GROUPS.items()}
    record = run_record(identity=identity, modes=modes, methods=about, subject=subject, data=data)
    store = ResultStore.create(root, record)
    for method in ("floor_box", "floor_ellipse", "unpruned"):
        add(store, "any", NO_LEVEL, method)
    return store


def build(root: Path) -> ResultStore:
    """Build the folder: floors, unpruned model, three methods at two levels in both modes, three seeds of `random`."""
    store = ResultStore.create(root, run_record())
    plan = make_plan(build_sam("pocket", device="meta"), "h40_m30")
    plan.save(plan_path(store, plan.hash))
    for method in ("floor_box", "floor_ellipse", "unpruned"):
        add(store, "any", NO_LEVEL, method)
    for mode in ("own", "same"):
        for level in LEVELS:
            for method in METHODS:
                for seed in range(3 if method == "random" else 1):
                    add(store, mode, level, method, seed, plan.hash)
    return store
