"""Options that several commands share, read into the types that the library takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .._support.errors import BudgetError
from ..data.folders.layouts import LAYOUTS
from ..evaluation.evaluate import EvalSize
from ..models.sam_shape import SHAPES
from ..models.segment_anything import SegmentAnythingFamily
from ..pruning.cost import CONVENTIONS
from ..pruning.level import ONE_TIME_LEVELS, Level
from ..pruning.target import Target
from ..scoring.recipes import available_baselines
from ..scoring.registry import available_criteria
from .group import Words

_SMALLEST_GRID, _LARGEST_GRID = 8, 16384
_LARGEST_WHOLE = 2**31 - 1


class Whole(click.IntRange):
    """A whole number that can be a count or a seed: what is larger than 2147483647 is refused, which help leaves out.

    Args:
        least: The smallest that is taken.
    """

    def __init__(self, least: int = 0) -> None:
        super().__init__(min=least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number, or end with a usage error."""
        number: int = super().convert(value, param, ctx)
        if number > _LARGEST_WHOLE:
            self.fail(f"{number} is too large: expected at most {_LARGEST_WHOLE}", param, ctx)
        return number


class OneLevel(click.ParamType):
    """One level, such as `h50_m70`."""

    name = "level"
    words = tuple(map(str, ONE_TIME_LEVELS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Read the level, or end with a usage error."""
        try:
            return Level.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class TargetType(click.ParamType):
    """A target, such as `params=60%`."""

    name = "target"
    words = ("params=60%", "flops=60%")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Read the target, or end with a usage error."""
        try:
            return Target.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """Side of the grid that masks are compared on, or `original`."""

    name = "pixels|original"
    words = ("256", "original")

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


class MethodName(click.ParamType):
    """A method or criterion, or several with commas; whether there is one of the name is looked up later.

    Plug-ins are loaded in between, so that their names are known.
    """

    name = "method"

    def __init__(self, several: bool = False) -> None:
        self.several = several

    @property
    def words(self) -> list[str]:
        """All names."""
        return sorted({*available_baselines(include_slow=True), *available_criteria()})


def file_or(*words: str) -> click.ParamType:
    """Return the type of a file's name that may also be one of some words."""
    return Words(words, places="file")


F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
MODEL_FILE = "FILE|pocket"
MODEL = file_or("pocket")
DEFAULT_ATTENTION = "segment-anything"


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        # the last decorator applied is the first option shown
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def image_size_option(command: F) -> F:
    """Add `--image-size`."""
    return click.option(
        "--image-size",
        type=Whole(1),
        metavar="PIXELS",
        help="Side of the model's square input.  [default: the model's own]",
    )(command)


def layout_option(command: F) -> F:
    """Add `--layout`."""
    return click.option(
        "--layout",
        type=click.Choice(["auto", *LAYOUTS]),
        default="auto",
        show_default=True,
        metavar="LAYOUT",
        help=f"How the files of --data are laid out: auto (recognised by their names), {', '.join(LAYOUTS)}.",
    )(command)


def kind_options(command: F) -> F:
    """Add `--model` (as `kind`) and `--image-size`, which files of SAM and MedSAM need."""
    return _all(
        click.option(
            "--model",
            "kind",
            type=click.Choice(list(SHAPES)),
            default="pocket",
            show_default=True,
            help="Which SAM a .pth file holds; files written by this tool know it themselves.",
        ),
        image_size_option,
    )(command)


def memory_options(command: F) -> F:
    """Add `--attention` and `--checkpointing`, which trade time for memory."""
    return _all(
        click.option(
            "--attention",
            type=click.Choice(list(SegmentAnythingFamily.attentions)),
            default=DEFAULT_ATTENTION,
            show_default=True,
            help="How attention is computed: by segment-anything's code, or by PyTorch's, which takes less memory.",
        ),
        click.option(
            "--checkpointing", is_flag=True, help="Compute parts twice in backward passes: slower, but in less memory."
        ),
    )(command)


def data_options(command: F) -> F:
    """Add `--data`, `--boxes`, `--layout` and `--split-seed`."""
    return _all(
        click.option(
            "--data",
            multiple=True,
            metavar="NAME=DIR",
            help="A folder of images and masks, and a name for it; may be repeated.  [default: drawn images]",
        ),
        click.option(
            "--boxes",
            multiple=True,
            metavar="NAME=CSV",
            help="Boxes of the data set NAME: columns name,x0,y0,x1,y1 in image pixels.  [default: from its masks]",
        ),
        layout_option,
        click.option(
            "--split-seed",
            type=Whole(),
            default=0,
            show_default=True,
            help="Seed of the split into training, validation and test images, where none lies beside the model.",
        ),
    )(command)


def device_option(command: F) -> F:
    """Add `--device`."""
    return click.option(
        "--device",
        type=Words(("cpu", "cuda")),
        default="cpu",
        show_default=True,
        metavar="DEVICE",
        help="Where to compute: cpu, or cuda on a GPU.",
    )(command)


def training_options(steps: int, batch_size: int, learning_rate: float) -> Callable[[F], F]:
    """Return a decorator that adds `--steps`, `--batch-size` and `--learning-rate` with these defaults."""
    return _all(
        click.option(
            "--steps",
            type=Whole(1),
            default=steps,
            show_default=True,
            metavar="N",
            help="Steps of the optimiser, one batch each.",
        ),
        batch_size_option(batch_size),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, min_open=True),
            default=learning_rate,
            show_default=True,
            metavar="RATE",
            help="Highest learning rate of the run.",
        ),
    )


def resume_option(command: F) -> F:
    """Add `--resume` and `--fresh`."""
    return click.option(
        "--resume/--fresh", default=True, show_default=True, help="Go on with a stopped run, or start over."
    )(command)


def overwrite_option(command: F) -> F:
    """Add `--overwrite`."""
    return click.option("--overwrite", is_flag=True, help="Replace files that are there already.")(command)


def plugin_option(command: F) -> F:
    """Add `--plugin`."""
    return click.option(
        "--plugin",
        type=file_or(),
        multiple=True,
        metavar="FILE|MODULE",
        help="Python code that registers methods of your own; may be repeated.",
    )(command)


def cache_option(says: str, default: Path | None = None) -> Callable[[F], F]:
    """Return a decorator that adds `--cache`, whose help says what it is by default."""
    return click.option(
        "--cache",
        type=FOLDER,
        default=default,
        help=f"Where what calibration collects is kept for the next run.  [default: {says}]",
    )


def convention_option(command: F) -> F:
    """Add `--convention`."""
    return click.option(
        "--convention",
        type=click.Choice(list(CONVENTIONS)),
        default="paper",
        show_default=True,
        help="FLOPs counted as in the paper, without padding and neck, or of every product that runs.",
    )(command)


def seed_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds `--seed`, whose help says of what."""
    return click.option("--seed", type=Whole(), default=0, show_default=True, help=what)


def batch_size_option(default: int) -> Callable[[F], F]:
    """Return a decorator that adds `--batch-size`."""
    return click.option(
        "--batch-size",
        type=Whole(1),
        default=default,
        show_default=True,
        metavar="N",
        help="Images at a time; fewer take less memory.",
    )


def scoring_options(command: F) -> F:
    """Add `--eval-size`, `--tolerance` (as `tolerance_px`) and `--batch-size`."""
    return _all(
        click.option(
            "--eval-size",
            type=GridSize(),
            default=256,
            show_default=True,
            metavar=GridSize.name,
            help="Masks are compared on a square grid of this side, or with `original` at each image's own size.",
        ),
        click.option(
            "--tolerance",
            "tolerance_px",
            type=click.FloatRange(0, 1e6),
            default=2.0,
            show_default=True,
            metavar="PIXELS",
            help="How far apart Boundary F1 lets two contours lie, in pixels of a 256 grid.",
        ),
        batch_size_option(16),
    )(command)
