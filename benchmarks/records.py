"""What one stored result says: a cell of the comparison, and the evaluation that it points to."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .._support.errors import ResultsError
from .._support.files import read_json_file, write_json_atomic

FORMAT = "medcore_prune.results/1"
_DIGEST = "content_sha256"
NO_LEVEL = "none"
"""Level of what is not pruned: the floors and the unpruned model."""


@dataclass(frozen=True)
class Cell:
    """Where a result belongs.

    Attributes:
        experiment: The command that made it.
        mode: How quotas were chosen, `own` or `same`; `any` for what is not pruned.
        method: Name of a baseline, of a floor, or `unpruned`.
        level: Nominal level, or `NO_LEVEL`.
        dataset: Name of the test set.
        seed: Of the calibration sample, or of a random method.
    """

    experiment: str
    mode: str
    method: str
    level: str
    dataset: str
    seed: int

    @property
    def path(self) -> Path:
        """Place of the cell's file within the results folder."""
        return Path("cells", self.mode, self.method, f"{self.level}-{self.dataset}-s{self.seed}.json")


@dataclass(frozen=True)
class CellResult:
    """One cell of the comparison, with all that is needed to repeat it.

    Attributes:
        cell: Where it belongs.
        evaluation: Key of the evaluation that holds its per-image metrics.
        metrics: Means over the data set's images.
        empty: Images whose predicted or true mask is empty: `one` of the two, or `both`.
        images: Number of images.
        plan: Hash of the pruning plan; empty where nothing was pruned.
        cost: Parameters and FLOPs left, the shares removed, and effective fractions.
        seconds: What scoring and evaluating took.
        peak_bytes: Memory that scoring took on top of what was in use; 0 where unknown.
        inputs: Hashes of models, data and calibration sample.
        settings: Everything else that the numbers depend on.
        versions: Of Python and the packages.
    """

    cell: Cell
    evaluation: str
    metrics: Mapping[str, float]
    empty: Mapping[str, int]
    images: int
    plan: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"format": FORMAT, **asdict(self)}


_TYPES: dict[str, type | tuple[type, ...]] = {
    "evaluation": str,
    "metrics": dict,
    "empty": dict,
    "images": int,
    "plan": str,
    "cost": dict,
    "seconds": dict,
    "peak_bytes": int,
    "inputs": dict,
    "settings": dict,
    "versions": dict,
}


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Store a JSON object of this package's format, with a hash of its content, so that `read_json` sees damage."""
    record = {"format": FORMAT, **value}
    write_json_atomic(path, {**record, _DIGEST: _digest(record)})


def _digest(record: Mapping[str, Any]) -> str:
    # through JSON once, so that what is written and what is read have the same keys in the same order
    plain = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, root: Path) -> dict[str, Any]:
    """Read a stored JSON object of this package's format.

    Files of earlier versions have no hash of their content and are taken as they are.

    Args:
        path: The file.
        root: The results folder, for the message.

    Raises:
        ResultsError: Damaged, or not of this format; the message tells which file to delete.
    """
    try:
        record = read_json_file(path)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise ResultsError(f"{path} is damaged ({reason}): delete this file and run again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ResultsError(
            f"{path} is no result of this version (expected format {FORMAT!r}, got {str(found)[:40]!r}): "
            f"delete this file, or name another folder than {root}"
        )
    digest = record.pop(_DIGEST, None)
    if digest is not None and digest != _digest(record):
        raise ResultsError(f"{path} is damaged (not as it was written): delete this file and run again")
    return record


def read_memory(path: Path) -> dict[str, Any]:
    """Read what a study remembers of an earlier run; nothing where there is no file.

    Raises:
        ResultsError: Damaged; the message tells which file to delete.
    """
    if not path.is_file():
        return {}
    try:
        stored = read_json_file(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is damaged ({str(error)[:80]}): delete this file and run again") from error
    if not isinstance(stored, dict):
        raise ResultsError(f"{path} is damaged (no JSON object): delete this file and run again")
    return stored


def parse_cell(record: Mapping[str, Any], path: Path) -> CellResult:
    """Turn a stored object into a `CellResult`.

    Raises:
        ResultsError: An entry is missing or of the wrong type; the message tells which file to delete.
    """
    place = record.get("cell")
    wrong = [name for name, kind in _TYPES.items() if not isinstance(record.get(name), kind)]
    if not isinstance(place, dict) or set(place) != {f.name for f in fields(Cell)}:
        wrong.insert(0, "cell")
    elif not all(isinstance(v, int | float) and math.isfinite(v) for v in (record.get("metrics") or {}).values()):
        wrong.append("metrics")
    if wrong or not isinstance(place, dict):
        raise ResultsError(f"{path} is damaged (wrong or missing: {', '.join(wrong)}): delete this file and run again")
    return CellResult(cell=Cell(**place), **{name: record[name] for name in _TYPES})
