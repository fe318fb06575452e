"""Results as files: one JSON a cell, per-image metrics as CSV, a distinct plan evaluated once, everything resumable."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..._support.errors import ResultsError
from ..._support.files import atomic_write, read_json_file, sha256_of, write_json_atomic, write_text_atomic
from ..._support.memo import Memo
from ..._support.records import Number, Record, RecordError, Whole, content_hash, matching, within
from ..._support.temporary import remove_unfinished
from ...data.csv_table import csv_text, read_written
from ...evaluation.metrics import TEXTS
from .fresh import remove_results


def read_arrays(
    path: Path, digest: str | None = None, names: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]] | None:
    """Read some arrays of an `.npz` file, or all; None where it is missing, damaged, or its entry `digest` another."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if digest is not None and str(stored["digest"]) != digest:
                return None
            return {name: stored[name] for name in names or stored.files}
    except Exception:  # zipfile, zlib, struct and numpy each have errors of their own for damage
        return None


def arrays(path: Path, digest: str) -> Memo[Mapping[str, Any]]:
    """Arrays in an `.npz` file that holds the hash of all that they depend on; others are measured again."""

    def write(path: Path, values: Mapping[str, Any]) -> None:
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, digest=digest, **values)

    return Memo(path, partial(read_arrays, digest=digest), write)


FORMAT = "medcore_prune.results/1"
_DIGEST = "content_sha256"
UNPRUNED = "unpruned"
NO_LEVEL = "none"
"""Level of what is not pruned: the floors and the unpruned model."""


Name = Annotated[str, matching("[A-Za-z0-9][A-Za-z0-9_.=%+-]{0,99}", "name of a mode, method, level or data set")]
"""What becomes part of paths, tables and pages."""


@dataclass(frozen=True)
class Cell(Record, closed=True):
    """Where a result belongs: the command that made it, and what it is of.

    `mode` is how quotas were chosen, `any` for what is not pruned; `method` a baseline, a floor, or `unpruned`; `level`
    nominal, or `NO_LEVEL`; `seed` that of the calibration sample, or of a random method.
    """

    experiment: Name
    mode: Name
    method: Name
    level: Name
    dataset: Name
    seed: Whole

    @property
    def path(self) -> Path:
        """Place of the cell's file within the results folder."""
        return Path("cells", self.mode, self.method, f"{self.level}-{self.dataset}-s{self.seed}.json")


@dataclass(frozen=True)
class CellResult(Record, format=FORMAT):
    """One cell of the comparison, with all that is needed to repeat it.

    Attributes:
        evaluation: Key of the evaluation that holds its per-image metrics.
        metrics: Means over the data set's images.
        empty: Images whose predicted or true mask is empty: `one` of the two, or `both`.
        plan: Hash of the pruning plan; empty where nothing was pruned.
        cost: Parameters and FLOPs left, the shares removed, and effective fractions.
        seconds, peak_bytes: What scoring and evaluating took; memory on top of what was in use, 0 where unknown.
        inputs: Hashes of models, data and calibration sample; `settings` is all else that the numbers depend on.
    """

    cell: Cell
    evaluation: str
    metrics: Mapping[str, Number]
    empty: Mapping[str, Whole]
    images: Whole
    plan: str = ""
    cost: Mapping[str, Number] = field(default_factory=dict)
    seconds: Mapping[str, Number] = field(default_factory=dict)
    peak_bytes: Whole = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run(Record):
    """What a run's file holds that reports rely on; it may hold more."""

    identity: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[Name, Mapping[str, Any]] = field(default_factory=dict)
    modes: Mapping[Name, str] | tuple[tuple[Name, str], ...] = ()
    draws: Annotated[int, within(1, 1_000_000, whole=True)] = 5000
    data: Mapping[Name, Mapping[str, Whole]] = field(default_factory=dict)
    subject: Name = "medcore"
    notice: str = ""
    adapted: str | None = None
    reference: str | None = None


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Store a JSON object of this package's format, with a hash of its content, so that `read_json` sees damage."""
    record = {"format": FORMAT, **value}
    write_json_atomic(path, {**record, _DIGEST: _digest(record)})


def _digest(record: Mapping[str, Any]) -> str:
    # through JSON once, so that what is written and what is read have the same keys in the same order
    return content_hash(json.loads(json.dumps(record)))


def read_json(path: Path, root: Path) -> dict[str, Any]:
    """Read a stored JSON object of this package's format; a `ResultsError` tells which file in `root` to delete.

    Files of earlier versions have no hash of their content and are taken as they are.
    """
    try:
        record = read_json_file(path)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ResultsError(f"{path} is damaged ({reason}): delete this file and run again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ResultsError(
            f"{path} is no result of this version (expected format {FORMAT!r}, got {str(found)[:40]!r}): another "
            f"program's stays as it is, so choose another folder than {root}; one that nobody needs can be deleted"
        )
    digest = record.pop(_DIGEST, None)
    if digest is not None and digest != _digest(record):
        raise ResultsError(f"{path} is damaged (not as it was written): delete this file and run again")
    return record


RUN_FILE = "run.json"
FOLDERS = ("cells", "evaluations", "plans", "gallery", "analysis", "calibration")
"""Where a run writes besides `run.json` and the rendered files; what it wrote there goes when it starts over."""


@dataclass(frozen=True)
class Evaluation:
    """Per-image metrics of one set of masks, whoever arrived at them, and what predicting and scoring took.

    `images` has a row an image: `dataset`, `name`, `group`, the metrics, `empty`.
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
    return content_hash(what)[:24]


class ResultStore:
    """A folder of results of one experiment: `create` to begin or go on, `open` to read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._evaluations: dict[str, tuple[list[tuple[int, ...]], Evaluation]] = {}

    @classmethod
    def open(cls, root: Path) -> "ResultStore":
        """Open existing results; a folder that holds none is a `ResultsError`."""
        if not (root / RUN_FILE).is_file():
            raise ResultsError(f"{root} holds no results (no {RUN_FILE}): expected the folder that an experiment wrote")
        store = cls(root)
        if "identity" not in store.run:
            raise ResultsError(f"{root / RUN_FILE} is damaged (missing: identity): use another folder")
        return store

    @classmethod
    def create(cls, root: Path, run: Mapping[str, Any], *, fresh: bool = False) -> "ResultStore":
        """Begin an experiment, or go on with it, or with `fresh` remove earlier results first.

        The `identity` of the run must be that of results already there, whose `methods` are kept; those of another run
        are a `ResultsError`.
        """
        store = cls(root)
        if fresh:
            # but for the record of the run, so that after a kill the folder is still that of one
            store._clear()
        elif (root / RUN_FILE).exists():
            _require_same(run["identity"], store.run.get("identity", {}), root)
            run = {**run, "methods": {**store.run.get("methods", {}), **run.get("methods", {})}}
        elif any((root / folder).exists() for folder in FOLDERS):
            raise ResultsError(
                f"{root} holds folders of results but no {RUN_FILE}: delete {', '.join(FOLDERS)} there, or choose "
                "another folder"
            )
        write_record(root / RUN_FILE, run)
        store.__dict__.pop("run", None)
        store._remove_unfinished()
        return store

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of a run that was killed while it wrote."""
        for folder in FOLDERS:
            remove_unfinished(self.root / folder, deep=True)

    def _clear(self) -> None:
        if self.root.exists() and any(self.root.iterdir()):
            if not (self.root / RUN_FILE).is_file():
                raise ResultsError(
                    f"{self.root} is not empty and holds no {RUN_FILE}: only what a run of this program wrote is "
                    "removed to start over; choose another folder"
                )
            self._require_run()
        remove_results(self.root, FOLDERS, FORMAT)

    def remove_sums(self) -> None:
        """Remove the sums of the calibration, from which scores were made that are kept."""
        remove_results(self.root, ("calibration",), FORMAT)

    def _require_run(self) -> None:
        """Refuse a folder whose `run.json` is another program's."""
        if not self.run.get("identity"):
            raise ResultsError(f"{self.root / RUN_FILE} is of no run: choose another folder")

    @cached_property
    def run(self) -> dict[str, Any]:
        """What `create` was told about the run."""
        path = self.root / RUN_FILE
        run = read_json(path, self.root)
        try:
            _Run.of(run)
        except RecordError as error:
            wrong = ", ".join(error.names)
            raise ResultsError(f"{path} is damaged (wrong: {wrong}): delete this file and run again") from error
        return run

    def has(self, cell: Cell) -> bool:
        """Whether the cell is stored."""
        return (self.root / cell.path).is_file()

    def write(self, result: CellResult) -> None:
        """Store a cell; names that no file may have are a `ResultsError`."""
        try:
            Cell.of(result.cell.values(), "the cell")
        except RecordError as error:
            raise ResultsError(f"{self.root} cannot hold a result of such a name: {error}") from error
        write_record(self.root / result.cell.path, result.values())

    def read(self, cell: Cell) -> CellResult:
        """Read a cell; what is damaged, foreign, or in another cell's place is a `ResultsError`."""
        return self._read(self.root / cell.path)

    def _read(self, path: Path) -> CellResult:
        try:
            result = CellResult.of(read_json(path, self.root))
        except RecordError as error:
            wrong = ", ".join(error.names)
            raise ResultsError(
                f"{path} is damaged (wrong or missing: {wrong}; {error}): delete this file and run again"
            ) from error
        if self.root / result.cell.path != path:
            raise ResultsError(f"{path} holds the result of {result.cell.path}: delete this file and run again")
        return result

    def cells(self) -> list[CellResult]:
        """Read all cells, in a fixed order."""
        paths = sorted((self.root / "cells").glob("**/*.json"))
        return [self._read(path) for path in paths if not path.name.startswith(".")]

    def evaluation(self, key: str) -> Evaluation | None:
        """Read an evaluation, or None where there is none yet; files that are as they were are read once."""
        path = self.root / "evaluations" / f"{key}.json"
        if not path.is_file():
            return None
        table = path.with_suffix(".csv")
        now = [_stamp(each) for each in (path, table)]
        stamps, found = self._evaluations.get(key, (None, None))
        if found is None or stamps != now:
            found = self._evaluation(key, path, table)
            self._evaluations[key] = now, found
        return found

    def _evaluation(self, key: str, path: Path, table: Path) -> Evaluation:
        record = read_json(path, self.root)
        if not table.is_file() or sha256_of(table) != record.get("sha256"):
            raise ResultsError(f"{table} is missing or not as it was written: delete {path} and run again")
        return Evaluation(key, read_written(table, TEXTS), float(record.get("seconds", 0.0)))

    def write_evaluation(self, evaluation: Evaluation, what: Mapping[str, Any]) -> None:
        """Store an evaluation: the table first, so that its record never points to nothing."""
        path = self.root / "evaluations" / f"{evaluation.key}.csv"
        write_text_atomic(path, csv_text(evaluation.images))
        record = {"sha256": sha256_of(path), "seconds": evaluation.seconds, "what": dict(what)}
        write_record(path.with_suffix(".json"), record)

    def write_analysis(self, name: str, value: Mapping[str, Any]) -> None:
        """Store what was measured besides the cells."""
        write_record(self.root / "analysis" / f"{name}.json", value)

    def analysis(self, name: str) -> dict[str, Any] | None:
        """Read what `write_analysis` stored, or None."""
        path = self.root / "analysis" / f"{name}.json"
        return read_json(path, self.root) if path.is_file() else None


def _stamp(path: Path) -> tuple[int, ...]:
    """What tells a file from one that was written in its place."""
    if not path.is_file():
        return ()
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _require_same(now: Mapping[str, Any], then: Mapping[str, Any], root: Path) -> None:
    # what is about to be stored has been through JSON too: tuples are lists there
    now = json.loads(json.dumps(now))
    changed = [name for name in {**then, **now} if now.get(name) != then.get(name)]
    if changed:
        first = changed[0]
        raise ResultsError(
            f"{root} holds results of another run ({', '.join(changed)} differ; {first} was {_short(then.get(first))}, "
            f"is {_short(now.get(first))}): choose another folder, or start over (--fresh)"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
