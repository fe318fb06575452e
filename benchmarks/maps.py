"""The map of what each method removed: a small picture a method and level, blocks across, heads down, neurons below."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..pruning.plan import Plan
from .planning import plan_path
from .plot_style import Theme, looks
from .results import ResultStore
from .summary import Summary

_CELL, _GAP, _BAR_CELLS, _BETWEEN = 6, 1, 4, 2
_MODE, _SEED = "own", 0

Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Removed:
    """What a plan takes from each block.

    Attributes:
        heads: (heads, blocks) bool, True for what goes; blocks with fewer heads are filled up with False.
        neurons: (blocks,) share of neurons that goes.
    """

    heads: npt.NDArray[np.bool_]
    neurons: npt.NDArray[np.float64]

    @classmethod
    def of(cls, plan: Plan) -> "Removed":
        """Read a plan."""
        heads = np.zeros((max(block.heads for block in plan.blocks), len(plan.blocks)), dtype=bool)
        for block in plan.blocks:
            heads[: block.heads, block.block] = True
            heads[list(block.keep_heads), block.block] = False
        return cls(heads, np.array([1 - len(block.keep_neurons) / block.neurons for block in plan.blocks]))


def read_plans(store: ResultStore) -> dict[tuple[str, str], Removed]:
    """Read the plans of own quotas and the first seed: (level, method) to what goes."""
    hashes = {
        (result.cell.level, result.cell.method): result.plan
        for result in store.cells()
        if (result.cell.mode, result.cell.seed) == (_MODE, _SEED) and result.plan
    }
    paths = {place: plan_path(store, plan_hash) for place, plan_hash in hashes.items()}
    return {place: Removed.of(Plan.load(path)) for place, path in paths.items() if path.is_file()}


def draw(removed: Removed, colour: str, theme: Theme) -> Pixels:
    """Paint one map: a cell a head, filled where it goes, and below a bar a block as high as the share of neurons."""
    heads, blocks = removed.heads.shape
    pixels = np.zeros(((heads + _BAR_CELLS) * _CELL + _BETWEEN, blocks * _CELL, 4))
    full, empty = (*to_rgb(colour), 1.0), (*to_rgb(theme.empty), 1.0)
    top, height = heads * _CELL + _BETWEEN, _BAR_CELLS * _CELL
    for block in range(blocks):
        across = slice(block * _CELL, (block + 1) * _CELL - _GAP)
        for head in range(heads):
            down = slice(head * _CELL, (head + 1) * _CELL - _GAP)
            pixels[down, across] = full if removed.heads[head, block] else empty
        filled = round(float(removed.neurons[block]) * height)
        pixels[top:, across] = empty
        if filled:
            pixels[-filled:, across] = full
    return pixels


def removed_map(plans: Mapping[tuple[str, str], Removed], summary: Summary, theme: Theme) -> Figure | None:
    """Draw all maps, methods across and levels down; None where no plan is stored."""
    styles = looks(summary.methods, summary.subject)
    methods = [method for method in summary.methods if any(place[1] == method for place in plans)]
    levels = [level for level in summary.levels if any(place[0] == level for place in plans)]
    if not methods:
        return None
    figure = Figure(figsize=(1.14 * len(methods) + 0.5, 1.75 * len(levels) + 0.5))
    axes = figure.subplots(len(levels), len(methods), squeeze=False)
    for row, level in enumerate(levels):
        for column, method in enumerate(methods):
            axis = axes[row, column]
            axis.set_axis_off()
            if (level, method) in plans:
                axis.imshow(draw(plans[level, method], styles[method].colour, theme), interpolation="nearest")
            if row == 0:
                axis.set_title(method.replace("_", "\n"), fontsize=8, loc="center", va="bottom")
        axes[row, 0].text(-0.12, 0.5, level, rotation=90, transform=axes[row, 0].transAxes, va="center", ha="right")
    figure.tight_layout(pad=0.3, w_pad=0.6, h_pad=2.2)
    return figure
