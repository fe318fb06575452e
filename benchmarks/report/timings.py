"""Records that the scripts of `benchmarks.speed` stored: how they are read, and what they are of in words."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
CPU, GPU = "workflow_pocket", "workflow_vit_b_h100"


def about(run: Record, timed: bool = True, what: bool = True) -> str:
    """What a record is of: the model, the device, threads, versions, the day, and what else there is to know."""
    machine, used = run.get("machine", {}), run.get("versions", {})
    parts = [f"{run['model']} at {run['image_size']} px"] if what else []
    if timed:
        device = machine.get("processor", run["device"]) if run["device"] == "cpu" else run["device"]
        threads = run.get("threads")
        count = f", {threads} thread{'s' if threads != 1 else ''}" if threads and run["device"] == "cpu" else ""
        parts += [f"on {device}{count}"]
    parts += [f"torch {used['torch']}" if "torch" in used else "", run["date"], run.get("note", "") if timed else ""]
    return ", ".join(part for part in parts if part)


def between(values: Sequence[float], digits: int = 0) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def read(path: Path) -> Record:
    """Read one record."""
    found: Record = json.loads(path.read_text(encoding="utf-8"))
    return found
