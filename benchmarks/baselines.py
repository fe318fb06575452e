"""`medcore-bench baselines`: the controlled comparison of the paper's Table 5, after the floors, without recovery."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..data import LAYOUTS
from ..data.named import parse_named
from ..encoders import SHAPES
from ..level import COMPARISON_LEVELS
from .comparison import Comparison
from .exclusive import exclusive
from .options import GridSize, LevelList, joined
from .report import render
from .settings import COUNTS, SUBJECT, Counts, Settings

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_INTERRUPTED = 130


@click.command(name="baselines")
@click.option("--model", type=click.Choice(list(SHAPES)), default="pocket", show_default=True)
@click.option("--adapted", type=_FILE, help="Checkpoint that is pruned.  [default: the pocket pair's]")
@click.option("--reference", type=_FILE, help="Checkpoint that it was fine-tuned from.  [default: the pocket pair's]")
@click.option("--image-size", type=click.IntRange(min=1), help="Input side in pixels, if not the model's own.")
@click.option(
    "--data",
    multiple=True,
    metavar="NAME=DIR",
    help="A folder of images and masks; may be repeated.  [default: three phantom polyp sets]",
)
@click.option(
    "--boxes",
    multiple=True,
    metavar="NAME=CSV",
    help="Box prompts of a data set, columns name,x0,y0,x1,y1 in image pixels.  [default: from its masks]",
)
@click.option("--layout", type=click.Choice(["auto", *LAYOUTS]), default="auto", show_default=True)
@click.option("--levels", type=LevelList(), default=joined(COMPARISON_LEVELS), show_default=True)
@click.option("--methods", metavar="NAME,...", help="Baselines or criteria.  [default: all but the slow ones]")
@click.option("--plugin", multiple=True, metavar="FILE|MODULE", help="Registers methods of your own; may be repeated.")
@click.option("--compare", default=SUBJECT, show_default=True, help="The method that is compared with each other one.")
@click.option("--calibration", type=click.IntRange(min=1), metavar="N", help="Calibration images of each set.")
@click.option("--images", type=click.IntRange(min=1), metavar="N", help="Test images of each set, at most.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Calibration samples to draw.")
@click.option("--split-seed", type=int, default=0, show_default=True, help="Of the roles of real images.")
@click.option("--role", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--eval-size",
    type=GridSize(),
    default=256,
    show_default=True,
    help="Side of the grid that masks are compared on, in pixels, or `original` for each image's own size.",
)
@click.option(
    "--tolerance",
    "tolerance_px",
    type=click.FloatRange(min=0),
    callback=lambda _context, _option, value: _finite(value),
    default=2.0,
    show_default=True,
    help="Of Boundary F1, in pixels of the 256 grid.",
)
@click.option("--out", type=_FOLDER, default=Path("medcore-results/baselines"), show_default=True)
@click.option("--cache", type=_FOLDER, help="Calibration statistics.  [default: calibration/ in the results]")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on with what is in --out, or start over.")
@click.option("--quick", "amount", flag_value="quick", help="Few images: does it run?")
@click.option("--full", "amount", flag_value="full", help="As many images and samples as reports show.")
@click.option("--gallery/--no-gallery", default=True, show_default=True, help="Keep and show pictures of the images.")
def command(
    data: tuple[str, ...],
    boxes: tuple[str, ...],
    methods: str | None,
    plugin: tuple[str, ...],
    compare: str,
    calibration: int | None,
    images: int | None,
    amount: str | None,
    resume: bool,
    **given: Any,
) -> None:
    """Compare pruning methods on the same groups, levels, images and seeds, with no recovery.

    Without options: the pocket pair on phantom polyps, in a few minutes. Results are kept as files; run the same
    command again to go on after an interruption, or with more methods and levels.
    """
    settings = Settings(
        counts=_counts(amount or "default", calibration, images),
        data=parse_named(data),
        boxes=parse_named(boxes, "--boxes"),
        methods=tuple(name.strip() for name in methods.split(",") if name.strip()) if methods else (),
        plugins=plugin,
        subject=compare,
        fresh=not resume,
        **given,
    )
    comparison = None
    try:
        with exclusive(settings.out):
            comparison = Comparison.prepare(settings)
            comparison.run()
            render(comparison.store, gallery=settings.gallery, subject=settings.subject)
    except KeyboardInterrupt:
        stored = len(comparison.store.cells()) if comparison else 0
        click.echo(
            f"\nstopped; {stored} cells are kept in {settings.out}: the same command goes on from there", err=True
        )
        sys.exit(_INTERRUPTED)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no distance")
    return value


def _counts(amount: str, calibration: int | None, images: int | None) -> Counts:
    counts = COUNTS[amount]
    if calibration is not None:
        counts = replace(counts, calibration=calibration)
    return counts if images is None else replace(counts, phantom_images=images, real_images=images)
