"""The Markdown report that lies beside a pruned model."""

from typing import Any

from ..pruning.cost import Cost
from .blocks import blocks_table
from .pruning import Pruned
from .table import Table


def report_text(done: Pruned, name: str) -> str:
    """Write what was cut, what is left, and the proof, as Markdown.

    Args:
        done: What pruning gave.
        name: Of the model's file.
    """
    record = done.record
    proof = record["masked_vs_removed"]
    lines = [
        f"# {name}",
        "",
        f"Level {done.plan.level} by {record['method']}, {record['target'] or 'as asked'}; heads and neurons are gone "
        "physically.",
        "",
        _totals(done.before, done.after).markdown(),
        "",
        f"Masked and physically pruned encoder outputs differ by at most {proof['largest_relative_difference']:.1e} of "
        f"the largest output, over {proof['images']} calibration images.",
        "",
        f"Training-free correction: {_correction(record['corrected'])}.",
        "",
        _calibration(record["calibration"]).markdown(),
        "",
        "## Blocks",
        "",
        blocks_table(done.plan, done.after).markdown(),
        "",
    ]
    return "\n".join(lines)


def _correction(corrected: dict[str, Any] | None) -> str:
    if corrected is None:
        return "none"
    residuals = " to ".join(f"{corrected[f'mean_residual_{when}']:.3f}" for when in ("before", "after"))
    return f"on {sum(corrected['images'].values())} images, mean relative residual of the layers {residuals}"


def _totals(before: Cost, after: Cost) -> Table:
    rows = [
        ("parameters, M", f"{before.params_m:.3f}", f"{after.params_m:.3f}", f"{after.params_removed(before):.1%}"),
        ("FLOPs, G", f"{before.flops_g:.3f}", f"{after.flops_g:.3f}", f"{after.flops_removed(before):.1%}"),
    ]
    return Table(("image encoder", "before", "after", "off"), rows)


def _calibration(sets: dict[str, dict[str, object]]) -> Table:
    rows = [(name, str(of["images"]), str(of["sha256"])[:16]) for name, of in sets.items()]
    return Table(("calibration images", "count", "SHA-256"), rows)
