"""What `medcore-prune evaluate` does: score models and floors on the same images, and lay out the tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pandas as pd
from torch import nn

from ..._support.files import require_writable, together, write_json_atomic, write_text_atomic
from ..._support.journal import Journal
from ...checkpoints.header import is_pruned_file
from ...checkpoints.pruned import read_header
from ...data.csv_table import csv_text
from ...data.folders.reading import Reading
from ...data.phantoms.marked import is_synthetic
from ...data.samples import subset_hash
from ...evaluation.estimates import Estimate, evaluation_estimate
from ...evaluation.evaluate import macro_average
from ...evaluation.figures import FILE_NAME as FIGURES
from ...evaluation.figures import Figures, averages, figures_json, images_of
from ...evaluation.images import EvalSize
from ...evaluation.intervals import INDICATIVE_BELOW, paired_difference, verdict
from ...evaluation.metrics import HIGHER_IS_BETTER, TITLES
from ...models.fingerprint import model_hash
from ...models.precision import Precision
from ...pruning.cost import count as cost_of
from .inputs import ImageOptions, named_model, read_model, require_own_images, say_notice
from .memory import fit
from .outputs.existing import Results
from .outputs.measured import Tables, evaluate_all, machine, milliseconds
from .precision import in_precision
from .table import Table

_MM = "hd95_mm"
_MOST_IMAGES = 16
_FILES = ("summary.md", "images.csv", FIGURES)
_SIZE = "M params: millions of parameters of the image encoder, which is what pruning makes smaller."
_COMPARED = ("dice", "bf1", "hd95_px")
_HIGHER_IS_BETTER = HIGHER_IS_BETTER | {_MM: False}


@in_precision()
def run(
    models: tuple[str, ...],
    against: str | None,
    data: tuple[str, ...],
    split_seed: int,
    reading: Reading,
    role: str,
    images: int | None,
    device: str,
    precision: Precision,
    eval_size: EvalSize,
    tolerance_px: float,
    overwrite: bool,
    out: Path | None,
) -> None:
    """Load everything, score floors and models on the same images, print and write the tables."""
    require_writable(out)
    files = [] if out is None else [out / name for name in _FILES]
    results = None if out is None else Results(Journal(out / ".evaluate.run", overwrite), files, overwrite, overwrite)
    source = ImageOptions(data, split_seed, reading)
    names = list(
        dict.fromkeys([*(models or (named_model(None, source, "evaluate"),)), *([against] if against else [])])
    )
    loaded = {name: read_model(name, device=device) for name in names}
    require_own_images(loaded.values(), source)
    sets = source.role(role, names, images)
    if results is not None and results.done(
        command="evaluate",
        read=names,
        images={name: subset_hash(part) for name, part in sets.items()},
        settings=[against, eval_size, tolerance_px, device, precision],
    ):
        return
    count = sum(map(len, sets.values()))
    batch_size = {name: _batch_size(name, model, count, len(loaded)) for name, model in loaded.items()}
    small: list[str] = []
    tables = evaluate_all(loaded, sets, eval_size, tolerance_px, batch_size, small)
    sizes = {"M params": {name: f"{cost_of(model).params_m:.2f}" for name, model in loaded.items()}}
    times = {"ms": {name: f"{value:.1f}" for name, value in milliseconds(loaded).items()}}
    parts = [summary(tables, sizes | times).text(), by_set(tables).text() if len(sets) > 1 else ""]
    if against:
        parts.append(comparison(tables, against).text())
    where = f"Computed in {precision} on {device}."
    notes = "\n".join([_notes(tables, against, eval_size, tolerance_px), _SIZE, *(f"{note}." for note in small), where])
    timed = f"ms: one image through the encoder, measured now on this machine ({machine(loaded[names[0]])})."
    click.echo("\n\n".join(part for part in (*parts, f"{notes}\n{timed}") if part))
    say_notice(source)
    if results is not None:
        with results.writing(), together():
            # what is measured of a machine is said and not kept: the same command gives the same files
            _write([summary(tables, sizes), by_set(tables)], tables, against, notes, *files[:2])
            hashes = {name: subset_hash(part) for name, part in sets.items()}
            measured = Measured(role, eval_size, tolerance_px, any(map(is_synthetic, sets.values())), hashes)
            found = [measured.of(_hash_of(name, loaded[name]), tables, name) for name in names]
            write_json_atomic(files[2], figures_json(found))
        click.echo(f"written: {', '.join(map(str, files))}")


@dataclass(frozen=True)
class Measured:
    """What models were measured on, for what goes on of it: fields are those of `Figures`."""

    role: str
    grid: EvalSize
    tolerance_px: float
    phantoms: bool
    hashes: Mapping[str, str]

    def of(self, model_hash: str, tables: Tables, name: str) -> Figures:
        """The figures of a model, whose table has this name, beside those of the floors."""
        floors = {
            other.removeprefix("floor: "): {metric: each.value for metric, each in averages(table).items()}
            for other, table in tables.items()
            if other.startswith("floor: ")
        }
        images = images_of(tables[name], self.hashes)
        on = (self.role, str(self.grid), self.tolerance_px, self.phantoms, images)
        return Figures(model_hash, *on, averages(tables[name]), floors)


def _hash_of(name: str, model: nn.Module) -> str:
    """The hash that a file says of its model, which is run in float32 where half precision is stored."""
    return read_header(name).model_hash if is_pruned_file(name) else model_hash(model)


def _batch_size(name: str, model: nn.Module, images: int, models: int) -> int:
    """Images at a time, after what the evaluation of this model, one of several, takes is said."""

    def estimate(batch_size: int) -> Estimate:
        found = evaluation_estimate(model, images, batch_size=batch_size, models=models)
        return replace(found, work=f"evaluation of {name}") if models > 1 else found

    return fit(estimate, _MOST_IMAGES, [model])


def _metrics(tables: Tables) -> dict[str, str]:
    """What is shown: millimetres too where the pixel spacing of an image is known."""
    known = any(_MM in table for table in tables.values())
    return {**TITLES, _MM: "HD95 mm"} if known else TITLES


def summary(tables: Tables, beside: Mapping[str, Mapping[str, str]] | None = None) -> Table:
    """Macro averages over data sets; what is not better than the best floor is marked.

    `beside` has further columns: their title to the cells of models by name; those that have none get a dash.
    """
    metrics, more = _metrics(tables), beside or {}
    averages = {name: macro_average(table, tuple(metrics)) for name, table in tables.items()}
    rows = [
        [name, str(len(tables[name])), *_cells(name, averages), *(column.get(name, "-") for column in more.values())]
        for name in averages
    ]
    return Table(["mean over data sets", "images", *metrics.values(), *more], rows)


def _cells(name: str, means: Mapping[str, pd.Series]) -> list[str]:
    """One row's numbers; those of a model are marked where no better than the best floor among `means`."""
    metrics = means[name].index
    cells = [_number(metric, means[name][metric]) for metric in metrics]
    if name.startswith("floor: "):
        return cells
    floors = [values for other, values in means.items() if other.startswith("floor: ")]
    return [
        cell + (" *" if _worse(metric, means[name][metric], floors) else "")
        for metric, cell in zip(metrics, cells, strict=True)
    ]


def _worse(metric: str, value: float, floors: list[pd.Series]) -> bool:
    if _HIGHER_IS_BETTER[metric]:
        return value <= max(float(floor[metric]) for floor in floors)
    return value >= min(float(floor[metric]) for floor in floors)


def _number(metric: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if metric in ("hd95_px", _MM) else f"{value:.4f}"


def by_set(tables: Tables) -> Table:
    """Means of each data set; what is not better than the best floor there is marked."""
    rows = []
    metrics = _metrics(tables)
    for name, table in tables.items():
        for dataset, part in table.groupby("dataset", sort=False):
            means = {other: of.loc[of["dataset"] == dataset, list(metrics)].mean() for other, of in tables.items()}
            rows.append([name, str(dataset), str(len(part)), *_cells(name, means)])
    return Table(["by data set", "", "images", *metrics.values()], rows, left=2)


def comparison(tables: Tables, against: str) -> Table:
    """Paired differences of every other model to one."""
    rows = []
    for name, table in tables.items():
        if name == against or name.startswith("floor: "):
            continue
        for metric in _COMPARED:
            found = paired_difference(table, tables[against], metric)
            numbers = (found.value, found.low, found.high)
            value, low, high = (f"{number:+.2f}" if metric == "hd95_px" else f"{number:+.4f}" for number in numbers)
            said = verdict(found.low, found.high, found.groups, higher_is_better=_HIGHER_IS_BETTER[metric])
            rows.append([name, TITLES[metric], value, f"{low} to {high}", str(found.groups), said])
    return Table([f"minus {against}", "metric", "difference", "95 % interval", "groups", ""], rows, left=2)


def _notes(tables: Tables, against: str | None, eval_size: EvalSize, tolerance_px: float) -> str:
    grid = "each image's own grid" if eval_size == "original" else f"a grid of {eval_size} x {eval_size} pixels"
    lines = [f"Masks compared on {grid}; BF1 within {tolerance_px:g} px of the 256 grid. * not better than a floor."]
    some = next(iter(tables.values()))
    if _MM in some:
        known = int(some[_MM].notna().sum())
        lines.append(f"HD95 mm: of the {known} of {len(some)} images whose pixel spacing is known.")
    empty = {name: int((table["empty"] == "one").sum()) for name, table in tables.items()}
    for name, count in empty.items():
        if count:
            lines.append(f"{name}: {count} images where one of both masks is empty count 0, and the image diagonal.")
    if against:
        compared = sum(name != against and not name.startswith("floor: ") for name in tables)
        lines.append(
            "Intervals: bootstrap over groups of images within each set, each for itself, not corrected for the "
            f"{compared * len(_COMPARED)} comparisons of the table; no verdict with fewer than {INDICATIVE_BELOW} "
            "groups in a set."
        )
    return "\n".join(lines)


def _write(first: Sequence[Table], tables: Tables, against: str | None, notes: str, text: Path, images: Path) -> None:
    parts = [table.markdown() for table in (*first, *([comparison(tables, against)] if against else []))]
    write_text_atomic(text, "\n\n".join(["# Evaluation", *parts, notes]) + "\n")
    rows = pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
    columns = ["model", *(column for column in rows if column != "model")]
    write_text_atomic(images, csv_text(rows[columns]))
