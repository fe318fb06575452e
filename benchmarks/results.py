"""Results as files: one JSON a cell, per-image metrics as CSV, a distinct plan evaluated once, everything resumable."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from .._support.errors import ResultsError
from .._support.files import atomic_write, sha256_of
from .records import Cell, CellResult, parse_cell, read_json, write_record

RUN_FILE = "run.json"
FOLDERS = ("cells", "evaluations", "plans", "gallery", "analysis", "calibration")
"""Everything that a run writes besides `run.json` and the rendered files; `--fresh` removes these and nothing else."""
_MAPPINGS = ("identity", "methods")
_TEXTS = ("dataset", "name", "group", "empty")


@dataclass(frozen=True)
class Evaluation:
    """Per-image metrics of one set of masks, whoever arrived at them.

    Attributes:
        key: See `evaluation_key`.
        images: A row an image: `dataset`, `name`, `group`, the metrics, `empty`.
        seconds: What predicting and scoring took.
    """

    key: str
    images: pd.DataFrame
    seconds: float

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Means over images."""
        numbers = self.images.select_dtypes("number")
        return {str(name): float(value) for name, value in numbers.mean().items()}

    @cached_property
    def empty(self) -> dict[str, int]:
        """Images of which one mask, or both, are empty."""
        return {kind: int((self.images["empty"] == kind).sum()) for kind in ("one", "both")}


def evaluation_key(**what: Any) -> str:
    """Hash what an evaluation depends on: masks (a plan's hash or a floor), model, data, settings."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


class ResultStore:
    """A folder of results of one experiment.

    Args:
        root: The folder. Use `create` to begin or go on, `open` to read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, root: Path) -> "ResultStore":
        """Open existing results.

        Raises:
            ResultsError: The folder holds none.
        """
        if not (root / RUN_FILE).is_file():
            raise ResultsError(
                f"{root} holds no results (no {RUN_FILE}): expected the folder that `medcore-bench baselines --out` "
                "wrote"
            )
        store = cls(root)
        if "identity" not in store.run:
            raise ResultsError(f"{root / RUN_FILE} is damaged (missing: identity): use another folder")
        return store

    @classmethod
    def create(cls, root: Path, run: Mapping[str, Any], *, fresh: bool = False) -> "ResultStore":
        """Begin an experiment, or go on with it.

        Args:
            root: The folder; made if missing.
            run: What is to be stored; its `identity` must be that of results already there, whose `methods` are kept.
            fresh: Remove earlier results first.

        Raises:
            ResultsError: Results of another run are there, or a damaged `run.json`.
        """
        store = cls(root)
        if fresh:
            store._clear()
        if (root / RUN_FILE).exists():
            _require_same(run["identity"], store.run.get("identity", {}), root)
            run = {**run, "methods": {**store.run.get("methods", {}), **run.get("methods", {})}}
        elif any((root / folder).exists() for folder in FOLDERS):
            raise ResultsError(
                f"{root} holds folders of results but no {RUN_FILE}: delete {', '.join(FOLDERS)} there, or use another "
                "--out"
            )
        write_record(root / RUN_FILE, run)
        store.__dict__.pop("run", None)
        store._remove_unfinished()
        return store

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of a run that was killed while it wrote."""
        for folder in FOLDERS:
            for path in (self.root / folder).glob("**/.*-*"):
                path.unlink(missing_ok=True)

    def _clear(self) -> None:
        if self.root.exists() and any(self.root.iterdir()) and not (self.root / RUN_FILE).is_file():
            raise ResultsError(
                f"{self.root} is not empty and holds no {RUN_FILE}: --fresh removes only what a run of this command "
                "wrote; use another --out"
            )
        for folder in FOLDERS:
            shutil.rmtree(self.root / folder, ignore_errors=True)
        (self.root / RUN_FILE).unlink(missing_ok=True)

    @cached_property
    def run(self) -> dict[str, Any]:
        """What `create` was told about the run."""
        path = self.root / RUN_FILE
        run = read_json(path, self.root)
        if wrong := [name for name in _MAPPINGS if not isinstance(run.get(name, {}), dict)]:
            raise ResultsError(f"{path} is damaged (wrong: {', '.join(wrong)}): delete this file and run again")
        return run

    def has(self, cell: Cell) -> bool:
        """Whether the cell is stored."""
        return (self.root / cell.path).is_file()

    def write(self, result: CellResult) -> None:
        """Store a cell."""
        write_record(self.root / result.cell.path, result.to_json())

    def read(self, cell: Cell) -> CellResult:
        """Read a cell.

        Raises:
            ResultsError: Damaged, foreign, or in another cell's place.
        """
        return self._read(self.root / cell.path)

    def _read(self, path: Path) -> CellResult:
        result = parse_cell(read_json(path, self.root), path)
        if self.root / result.cell.path != path:
            raise ResultsError(f"{path} holds the result of {result.cell.path}: delete this file and run again")
        return result

    def cells(self) -> list[CellResult]:
        """Read all cells, in a fixed order.

        Raises:
            ResultsError: A file is damaged or foreign.
        """
        return [self._read(path) for path in _visible(self.root / "cells", "**/*.json")]

    def evaluation(self, key: str) -> Evaluation | None:
        """Read an evaluation, or None where there is none yet.

        Raises:
            ResultsError: Damaged; the message tells which file to delete.
        """
        path = self.root / "evaluations" / f"{key}.json"
        if not path.is_file():
            return None
        record, table = read_json(path, self.root), path.with_suffix(".csv")
        if not table.is_file() or sha256_of(table) != record.get("sha256"):
            raise ResultsError(f"{table} is missing or not as it was written: delete {path} and run again")
        images = _read_table(table)
        return Evaluation(key, images, float(record.get("seconds", 0.0)))

    def write_evaluation(self, evaluation: Evaluation, what: Mapping[str, Any]) -> None:
        """Store an evaluation: the table first, so that its record never points to nothing."""
        path = self.root / "evaluations" / f"{evaluation.key}.csv"
        with atomic_write(path) as temporary:
            evaluation.images.to_csv(temporary, index=False, lineterminator="\n")
        record = {"sha256": sha256_of(path), "seconds": evaluation.seconds, "what": dict(what)}
        write_record(path.with_suffix(".json"), record)

    def write_analysis(self, name: str, value: Mapping[str, Any]) -> None:
        """Store what was measured besides the cells."""
        write_record(self.root / "analysis" / f"{name}.json", value)

    def analysis(self, name: str) -> dict[str, Any] | None:
        """Read what `write_analysis` stored, or None."""
        path = self.root / "analysis" / f"{name}.json"
        return read_json(path, self.root) if path.is_file() else None


def _read_table(path: Path) -> pd.DataFrame:
    """Read per-image metrics: texts stay texts (an image may be called `NA`, a group 007), numbers to the last bit."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in table.columns.difference(list(_TEXTS)):
        table[column] = [float(value) for value in table[column]]
    return table


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    return (path for path in sorted(folder.glob(pattern)) if not path.name.startswith("."))


def _require_same(now: Mapping[str, Any], then: Mapping[str, Any], root: Path) -> None:
    # what is about to be stored has been through JSON too: tuples are lists there
    now = json.loads(json.dumps(now))
    changed = [name for name in {**then, **now} if now.get(name) != then.get(name)]
    if changed:
        first = changed[0]
        raise ResultsError(
            f"{root} holds results of another run ({', '.join(changed)} differ; {first} was {_short(then.get(first))}, "
            f"is {_short(now.get(first))}): use another --out, or --fresh to start over"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
