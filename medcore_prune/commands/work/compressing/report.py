"""What a compression came to: size, time and contour before and after, on test images that no step has seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ...._support.errors import DataError
from ...._support.files import write_json_atomic, write_text_atomic
from ....checkpoints.card import model_card
from ....checkpoints.pruned import read_header
from ....data.phantoms.marked import is_synthetic
from ....data.samples import subset_hash
from ....data.splits.split import Split
from ....evaluation.evaluate import macro_average
from ....evaluation.intervals import INDICATIVE_BELOW, paired_difference
from ....evaluation.metrics import TITLES
from ....pruning.cost import count
from ..evaluate import Measured
from ..outputs.judged import FLOOR_TITLES, judged_by
from ..outputs.measured import Tables, evaluate_all, milliseconds
from ..table import Table

_WHOLE, _SMALL = "before", "after"
_GRID, _TOLERANCE_PX = 256, 2.0


class Final:
    """The comparison at the end, of a whole model and what became of it."""

    def __init__(self, whole: nn.Module, small: nn.Module, roles: Split, at_a_time: int) -> None:
        self._models = {_WHOLE: whole, _SMALL: small}
        self._test = {name: samples for name, samples in roles.test.items() if len(samples)}
        if not self._test:
            raise DataError("there is no test image to compare on: give that part a larger share")
        self._at_a_time = dict.fromkeys(self._models, at_a_time)
        self.said: list[str] = []
        """What is to be said of the figures; after `measured`."""

    @property
    def synthetic(self) -> bool:
        """Whether test images are drawn."""
        return any(map(is_synthetic, self._test.values()))

    def card(self, final: Path) -> str:
        """The card of the small file, with its figures on the test images; after `measured`."""
        hashes = {name: subset_hash(samples) for name, samples in self._test.items()}
        measured = Measured("test", _GRID, _TOLERANCE_PX, self.synthetic, hashes)
        return model_card(final, measured.of(read_header(final).model_hash, self._tables, _SMALL))

    def measured(self, files: Sequence[Path]) -> Table:
        """Measure both: a row a figure, before and after, and the paired difference where there is one."""
        costs = {name: count(model) for name, model in self._models.items()}
        before, after = costs[_WHOLE], costs[_SMALL]
        whole_ms, small_ms = milliseconds(self._models).values()
        rows = [
            _share("encoder, M parameters", before.params_m, after.params_m, "{:.2f}"),
            _share("encoder, G FLOPs", before.flops_g, after.flops_g, "{:.2f}"),
            _share("encoder, ms an image, PyTorch", whole_ms, small_ms, "{:.1f}"),
        ]
        rows += [[f"{path.name}, MB", "", f"{path.stat().st_size / 1e6:.1f}", ""] for path in files if path.is_file()]
        notes: list[str] = []
        self._tables = tables = evaluate_all(self._models, self._test, _GRID, _TOLERANCE_PX, self._at_a_time, notes)
        drawn = ["The test images are synthetic (phantoms): the figures say nothing of real ones."]
        self.said = [*(drawn if self.synthetic else []), *(f"{note}." for note in notes), *_below(tables)]
        return Table(["test images", _WHOLE, _SMALL, "difference, 95 % interval"], [*rows, *_contours(tables)])


def _below(tables: Tables) -> list[str]:
    """Say where what was made is no better than answers without a model, and what may help."""
    judged = judged_by(tables, {}, {}, ())
    if not (below := judged.below(_SMALL)):
        return []
    do = (
        "nor was the whole model: adapt it first (--adapt STEPS)"
        if judged.below(_WHOLE)
        else "cut less, or train it longer"
    )
    return [f"{_SMALL}: no better than answers without a model ({below}); {do}."]


def _share(what: str, before: float, after: float, form: str) -> list[str]:
    return [what, form.format(before), form.format(after), f"{after / before - 1:+.1%}"]


def _contours(tables: Mapping[str, pd.DataFrame]) -> list[list[str]]:
    means = {name: macro_average(table, tuple(TITLES)) for name, table in tables.items()}
    rows = []
    for metric, title in TITLES.items():
        form = "{:.2f}" if metric == "hd95_px" else "{:.4f}"
        lost = paired_difference(tables[_SMALL], tables[_WHOLE], metric)
        signed = form.replace(":", ":+")
        cells = [form.format(means[name][metric]) for name in (_WHOLE, _SMALL)]
        interval = f"{signed.format(lost.value)} [{signed.format(lost.low)}, {signed.format(lost.high)}]"
        few = f", {lost.groups} groups" if lost.groups < INDICATIVE_BELOW else ""
        rows.append([title, *cells, interval + few])
    for floor in (name for name in tables if name.startswith("floor: ")):
        title = FLOOR_TITLES[floor.removeprefix("floor: ")]
        rows.append([f"BF1 of {title}", "", f"{means[floor]['bf1']:.4f}", ""])
    return rows


def write_report(
    out: Path, asked: Mapping[str, Any], whole: Path, final: Path, table: Table, comparison: Final
) -> None:
    """Write the figures for reading and for machines."""
    lines = [
        f"# {final.name}",
        "",
        f"Made from {whole.name}, asked for: {asked['goal']}. Research use; not a clinical result.",
        "",
        table.markdown(),
        "",
        *(line for said in comparison.said for line in (said, "")),
        "Means over data sets of test images, which no step has seen; differences are paired, their intervals "
        "bootstrapped over groups of images and not corrected for several comparisons"
        f"; with fewer than {INDICATIVE_BELOW} groups they are indicative only. BF1 within 2 px of the 256 grid.",
        "",
        "How much went was chosen on validation images, by models that were cut and corrected but not yet trained: "
        "candidates/ holds them. Load the model with `medcore_prune.load`, or run "
        f"`medcore-prune predict {final.name} image.png`.",
        "",
    ]
    write_text_atomic(out / "report.md", "\n".join(lines))
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    write_json_atomic(out / "compress.json", {"asked": dict(asked), "final": final.name, "table": rows})
