"""Options that several commands share, read into the types that the library takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..data import LAYOUTS
from ..encoders import SHAPES, SegmentAnythingFamily
from ..errors import BudgetError
from ..evaluation import EvalSize
from ..level import Level

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
MODEL_FILE = "FILE|pocket"
DEFAULT_ATTENTION = "segment-anything"
_SMALLEST_GRID, _LARGEST_GRID = 8, 16384


class OneLevel(click.ParamType):
    """One level, such as `h50_m70`."""

    name = "LEVEL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Read the level, or end with a usage error."""
        try:
            return Level.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """Side of the grid that masks are compared on, or `original`."""

    name = "PIXELS|original"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EvalSize:
        """Read the size, or end with a usage error."""
        if value == "original":
            return "original"
        try:
            size = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of pixels nor original", param, ctx)
        if not _SMALLEST_GRID <= size <= _LARGEST_GRID:
            self.fail(f"{size} pixels: expected {_SMALLEST_GRID} to {_LARGEST_GRID}", param, ctx)
        return size


class BoxType(click.ParamType):
    """A box in image pixels, `x0,y0,x1,y1`."""

    name = "X0,Y0,X1,Y1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Read the corners, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no box: expected four numbers such as 10,20,80,90", param, ctx)
        return x0, y0, x1, y1


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        # the last decorator applied is the first option shown
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def kind_options(command: F) -> F:
    """Add `--model` (as `kind`) and `--image-size`, which files of SAM and MedSAM need."""
    return _all(
        click.option(
            "--model",
            "kind",
            type=click.Choice(list(SHAPES)),
            default="pocket",
            show_default=True,
            help="Which SAM the .pth files are; files written by this tool know it themselves.",
        ),
        click.option("--image-size", type=click.IntRange(1), help="Another input side in pixels than the model's own."),
    )(command)


def memory_options(command: F) -> F:
    """Add `--attention` and `--checkpointing`, which trade time for memory."""
    return _all(
        click.option(
            "--attention",
            type=click.Choice(list(SegmentAnythingFamily.attentions)),
            default=DEFAULT_ATTENTION,
            show_default=True,
            help="How attention is computed; sdpa takes less memory.",
        ),
        click.option("--checkpointing", is_flag=True, help="Recompute blocks in backward passes, to take less memory."),
    )(command)


def data_options(command: F) -> F:
    """Add `--data`, `--boxes`, `--layout` and `--split-seed`."""
    return _all(
        click.option(
            "--data",
            multiple=True,
            metavar="NAME=DIR",
            help="A folder of images and masks; may be repeated.  [default: phantom images of this package]",
        ),
        click.option(
            "--boxes",
            multiple=True,
            metavar="NAME=CSV",
            help="Box prompts of a data set, columns name,x0,y0,x1,y1 in image pixels.  [default: from its masks]",
        ),
        click.option(
            "--layout",
            type=click.Choice(["auto", *LAYOUTS]),
            default="auto",
            show_default=True,
            help="How the folders are laid out; auto recognises them.",
        ),
        click.option(
            "--split-seed",
            type=int,
            default=0,
            show_default=True,
            help="Of the roles of the images, where no split lies beside the model's file.",
        ),
    )(command)


def device_option(command: F) -> F:
    """Add `--device`."""
    return click.option("--device", default="cpu", show_default=True, help="cpu, or cuda on a GPU.")(command)


def seed_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds `--seed`, whose help says of what."""
    return click.option("--seed", type=int, default=0, show_default=True, help=what)


def scoring_options(command: F) -> F:
    """Add `--eval-size`, `--tolerance` (as `tolerance_px`) and `--batch-size`."""
    return _all(
        click.option(
            "--eval-size",
            type=GridSize(),
            default=256,
            show_default=True,
            help="Side of the grid that masks are compared on, in pixels, or `original` for each image's own size.",
        ),
        click.option(
            "--tolerance",
            "tolerance_px",
            type=click.FloatRange(0, 1e6),
            default=2.0,
            show_default=True,
            help="Of Boundary F1, in pixels of the 256 grid.",
        ),
        click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images at a time."),
    )(command)
