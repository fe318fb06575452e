"""What was measured besides the cells, as tables: agreement with exact interventions, stability, cost."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..models.groups import FAMILY_NAMES
from .grid import Grid
from .records import NO_LEVEL
from .results import ResultStore
from .tables import percent

T = TypeVar("T")

FAINT_REFERENCE = 1e-3
"""Ratio of the models' Fisher below which the reset term is said to hardly count: its root weighs 3 %."""
_FEW_UNITS = 10


def agreement(found: Mapping[str, Any], order: Sequence[str]) -> Grid:
    """Rank correlation of each method's scores with the exact interventions."""
    known = next(iter(next(iter(found["methods"].values())).values()))
    interventions = [name for name in ("zero", "reset") if name in known]
    columns = [f"{family}: {name}" for family in FAMILY_NAMES for name in interventions]
    rows = [
        [method, *(_rho(of_method[family][name]) for family in FAMILY_NAMES for name in interventions)]
        for method, of_method in _ordered(found["methods"], order)
    ]
    units = " and ".join(f"{count} {family}" for family, count in found["units"].items())
    return Grid(
        "Rank correlation (Spearman) of scores with exact interventions",
        ["method", *columns],
        rows,
        [
            f"Exact: the change of the boundary-aware loss when a unit is set to zero, or back to the reference; "
            f"{units} drawn at random, {found['images']} calibration images of each data set.",
            *(["So few units say next to nothing."] if min(found["units"].values()) < _FEW_UNITS else []),
            *_reference(found.get("reference_fisher", {})),
        ],
    )


def _reference(ratios: Mapping[str, float]) -> list[str]:
    """How the reference's Fisher compares with the adapted model's, and what follows where it is next to nothing."""
    if not ratios:
        return []
    line = "Mean Fisher of the reference over the adapted model's: "
    line += ", ".join(f"{ratio:.2g} on {name}" for name, ratio in ratios.items())
    if min(ratios.values()) < FAINT_REFERENCE:
        return [f"{line}. Next to nothing: this reference hardly responds to the images, and resets hardly count."]
    return [f"{line}."]


def stability(found: Mapping[str, Any], order: Sequence[str]) -> Grid:
    """Rank correlation of scores from fewer samples with those from all, and the share of removals that agree."""
    samples = found["samples"]
    rows = [
        [
            method,
            family,
            *(
                f"{_rho(rho)} / {percent(same)}"
                for rho, same in zip(of_method[family]["spearman"], of_method[family]["overlap"], strict=True)
            ),
        ]
        for method, of_method in _ordered(found["methods"], order)
        for family in FAMILY_NAMES
    ]
    return Grid(
        "Stability of rankings against the number of calibration samples",
        ["method", "family", *(f"n = {n}" for n in samples)],
        rows,
        [
            f"Spearman's correlation with the scores from all {samples[-1]} samples of each data set, mean over "
            f"blocks / percent of the units removed at {found['level']} that are the same (uniform quotas)."
        ],
        left=2,
    )


def cost(store: ResultStore, order: Sequence[str]) -> Grid | None:
    """Seconds and peak memory of scoring, beside what the calibration shared by all of them took."""
    taken: dict[str, tuple[float, int]] = {}
    for result in store.cells():
        if result.cell.level != NO_LEVEL:
            seconds, peak = taken.get(result.cell.method, (0.0, 0))
            taken[result.cell.method] = max(seconds, result.seconds.get("scoring", 0.0)), max(peak, result.peak_bytes)
    if not taken:
        return None
    known = store.run.get("methods", {})
    rows = [
        [
            name,
            _reads(known.get(name, {})),
            f"{seconds:.2f}",
            f"{peak / 1e6:.0f}",
        ]
        for name, (seconds, peak) in _ordered(taken, order)
    ]
    return Grid("Cost of scoring", ["method", "reads", "seconds", "peak MB"], rows, _calibration(store), left=2)


def _reads(about: Mapping[str, Any]) -> str:
    """What a method reads: statistics, or the images themselves, or nothing but weights."""
    return ", ".join(about.get("needs", [])) or ("images" if about.get("calibrated") else "–")


def _calibration(store: ResultStore) -> Sequence[str]:
    lines = ["One scoring of all units; peak MB: the most in tensors made meanwhile and alive at the same time."]
    found = store.analysis("calibration")
    if found:
        samples = ", ".join(f"{count} of {name}" for name, count in found["samples"].items())
        lines.append(
            f"Calibration, once for all methods, levels and modes: {found['seconds']:.1f} s, peak "
            f"{found['peak_bytes'] / 1e6:.0f} MB ({samples}; {found['draws']} drawn); what a cache held took no time."
        )
    return lines


def _ordered(found: Mapping[str, T], order: Sequence[str]) -> list[tuple[str, T]]:
    """Methods as the other tables order them; JSON files keep no order."""
    return sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _rho(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
