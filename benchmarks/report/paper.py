"""The paper's own tables, as figures for comparison: MedSAM ViT-B at 1024 px, real data sets, its authors' training.

Facts from arXiv 2605.13688 (Tables 1 to 5, Section 5.3), kept as CSV files in the package.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import pandas as pd

from .tables import Grid

LABEL = (
    "The paper's figures: MedSAM ViT-B at 1024 px on real data sets (arXiv 2605.13688). Another model, other images."
)
_FOLDER = files(__package__) / "paper"
_FILES = {
    1: "table1_polyp.csv",
    2: "table2_modalities.csv",
    3: "table3_ablation_bf1.csv",
    4: "table4_leverage.csv",
    5: "table5_baselines.csv",
}
_DIGITS = {"params_m": 1, "flops_g": 1, "hd95": 2, "params_removed_pct": 1, "flops_removed_pct": 1}
_NAMES = {
    "params_m": "params M",
    "flops_g": "FLOPs G",
    "dice": "Dice",
    "iou": "IoU",
    "bf1": "BF1",
    "hd95": "HD95 px",
    "params_removed_pct": "params -%",
    "flops_removed_pct": "FLOPs -%",
    "seq_h84_m95": "sequential h84_m95",
}


@cache
def paper_table(number: int) -> pd.DataFrame:
    """Read a table of the paper, 1 to 5, as printed: BF1, Dice, IoU in [0, 1], HD95 in pixels, parameters in M."""
    return pd.read_csv(str(_FOLDER / _FILES[number]))


def paper_grid(number: int, columns: Sequence[str] | None = None, *, left: int = 2) -> Grid:
    """One of the paper's tables in the look of this package's own; the first `left` columns hold names."""
    table = paper_table(number)
    shown = list(columns or table.columns)
    rows = [[_text(name, value) for name, value in zip(shown, row, strict=True)] for row in table[shown].to_numpy()]
    return Grid(f"The paper's Table {number}", [_NAMES.get(name, name) for name in shown], rows, [LABEL], left=left)


def _text(column: str, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return "–" if number != number else f"{number:.{_DIGITS.get(column, 4)}f}"
