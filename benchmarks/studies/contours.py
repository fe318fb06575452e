"""One picture of what a cut and its correction do to contours: `python -m medcore_prune.benchmarks.studies.contours`.

Drawn images, since those of most data sets may not be shown; always the first of each set, and in the titles the mean
over all of them, so that nothing depends on which were chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from ..._support.files import write_text_atomic
from ...commands.work.inputs import read_model
from ...data.phantoms.catalogue import make
from ...data.samples import Sample
from ...evaluation.evaluate import EvaluationSet, Masks, predict, score
from ...models.families import geometry_of
from ..report.plots.style import OTHER_COLOUR, SUBJECT_COLOUR, THEMES, panels, svg, themed

SETS = ("phantom_polyp_a", "phantom_ultrasound")
SEED = 11
_ROOM = 1.4  # sides of the view to the longer side of the box
NOTICE = "Drawn images, not real ones. Blue: true contour; orange: the model's."


@dataclass(frozen=True)
class Column:
    """A model's masks of the images that are shown, and its scores of all images."""

    title: str
    masks: Sequence[Masks]
    scores: pd.DataFrame

    @property
    def heading(self) -> str:
        """Title with the mean scores."""
        means = self.scores[["dice", "bf1"]].mean()
        return f"{self.title}\nDice {means['dice']:.3f}, Boundary F1 {means['bf1']:.3f}"


def columns(models: Mapping[str, nn.Module], count: int) -> tuple[list[Sample], list[Column]]:
    """Run models on so many drawn images of each of `SETS`: the first of each set, and a column a model."""
    sets = [make(name, seed=SEED, count=count, size=256) for name in SETS]
    found = []
    for title, model in models.items():
        ready = [EvaluationSet(each, geometry_of(model).frame, "original") for each in sets]
        masks = [predict(model, images, progress=True) for images in ready]
        tables = [score(each, images) for each, images in zip(masks, ready, strict=True)]
        found.append(Column(title, masks, pd.concat(tables)))
    return [each[0] for each in sets], found


def draw(samples: Sequence[Sample], found: Sequence[Column]) -> Figure:
    """Draw contours around the object, a row an image and a column a model."""
    figure, axes = panels((2.6 * len(found), 2.6 * len(samples) + 0.9), len(samples), len(found))
    for row, sample in zip(range(len(samples)), samples, strict=True):
        for axis, column in zip(axes[row], found, strict=True):
            view = _view(sample)
            axis.imshow(sample.image[view], interpolation="bilinear")
            for mask, colour in ((sample.mask, OTHER_COLOUR), (column.masks[row][0], SUBJECT_COLOUR)):
                axis.contour(np.asarray(mask[view], dtype=float), levels=[0.5], colors=[colour], linewidths=1.6)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
            if not row:
                axis.set_title(column.heading, fontsize=8.5)
    count = len(found[0].scores)
    figure.text(0.01, 0.005, f"{NOTICE} Scores: means over {count} such images.", fontsize=8)
    figure.tight_layout(rect=(0, 0.025, 1, 1))
    return figure


def _view(sample: Sample) -> tuple[slice, slice]:
    """Rows and columns of a square around the object, as far as the image reaches."""
    x0, y0, x1, y1 = map(round, sample.box)
    height, width = sample.mask.shape
    side = min(round(_ROOM * max(x1 - x0, y1 - y0)), height, width)
    top, left = ((a + b - side) // 2 for a, b in ((y0, y1), (x0, x1)))
    top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
    return slice(top, top + side), slice(left, left + side)


@click.command()
@click.option("--model", "models", type=(str, str), multiple=True, required=True, metavar="TITLE FILE")
@click.option("--count", type=click.IntRange(1), default=8, show_default=True, help="Images of each set.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(models: Sequence[tuple[str, str]], count: int, out: Path) -> None:
    """Draw the contours of models, in the order in which they are given, as SVG."""
    read = {title: read_model(file) for title, file in models}
    with themed(THEMES["light"]):
        write_text_atomic(out, svg(draw(*columns(read, count))))
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
