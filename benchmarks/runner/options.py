"""The options of every experiment's command, and the settings that they are read into."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ...commands.options import (
    GridSize,
    Whole,
    batch_size_option,
    cache_option,
    device_option,
    image_size_option,
    layout_option,
    plugin_option,
    resume_option,
)
from ...data.folders.folder import parse_named
from ...models.sam_shape import SHAPES
from ...pruning.level import Level
from .settings import COUNTS, Counts, LevelList, Settings, joined

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


def _finite(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number of pixels, got {value}")
    return value


def _by_amount(field: str) -> str:
    default, quick, full = (getattr(COUNTS[amount], field) for amount in ("default", "quick", "full"))
    return f"[default: {default}; {quick} with --quick, {full} with --full]"


def _drawn() -> str:
    default, quick, full = (COUNTS[amount].phantom_images for amount in ("default", "quick", "full"))
    return f"{default} of drawn ones, {full} with --full; {quick} with --quick"


def _options(name: str, levels: Sequence[Level], default_data: str) -> list[Callable[[Any], Any]]:
    """The options of every experiment, in the order in which help shows them."""
    option = click.option
    number = Whole(1)
    own_levels = [
        option(
            "--levels",
            type=LevelList(),
            default=joined(tuple(levels)),
            help="How much goes: h50_m70 is 50 % of the attention heads and 70 % of the MLP neurons.  "
            f"[default: {joined(tuple(levels), ', ')}]",
        )
    ]
    return [
        option("--quick", "amount", flag_value="quick", help="Very few images and samples, to see whether it runs."),
        option("--full", "amount", flag_value="full", help="As many images and samples as a report should show."),
        option(
            "--model",
            type=click.Choice(list(SHAPES)),
            default="pocket",
            show_default=True,
            help="Which SAM --adapted and --reference hold; pocket is the small pair that is built in.",
        ),
        option("--adapted", type=_FILE, help="Checkpoint that is pruned.  [default: the built-in one]"),
        option("--reference", type=_FILE, help="What it was fine-tuned from.  [default: the built-in one's]"),
        image_size_option,
        option(
            "--data",
            multiple=True,
            metavar="NAME=DIR",
            help=f"A folder of images and masks, and a name for it; may be repeated.  [default: {default_data}]",
        ),
        option(
            "--boxes",
            multiple=True,
            metavar="NAME=CSV",
            help="Boxes of the data set NAME: columns name,x0,y0,x1,y1 in image pixels.  [default: from its masks]",
        ),
        layout_option,
        *(own_levels if levels else []),
        plugin_option,
        option(
            "--calibration",
            type=number,
            metavar="N",
            help=f"Training images of each set that scores come from.  {_by_amount('calibration')}",
        ),
        option(
            "--correction",
            type=number,
            metavar="N",
            help=f"Those of them that the training-free correction reads.  {_by_amount('correction')}",
        ),
        option(
            "--images",
            type=number,
            metavar="N",
            help=f"Images of each set that models are judged on, at most.  [default: all of --data; {_drawn()}]",
        ),
        option(
            "--seeds",
            type=number,
            default=1,
            show_default=True,
            metavar="N",
            help="Times that the training images for scores are drawn anew, to see how much results vary.",
        ),
        option(
            "--split-seed",
            type=Whole(),
            default=0,
            show_default=True,
            help="Seed of the split into training, validation and test images, where none lies beside the checkpoint.",
        ),
        option(
            "--role",
            type=click.Choice(["test", "validation"]),
            default="test",
            show_default=True,
            help="Images that models are judged on; validation is for choosing settings.",
        ),
        device_option,
        batch_size_option(16),
        option(
            "--eval-size",
            type=GridSize(),
            default=256,
            show_default=True,
            metavar=GridSize.name,
            help="Masks are compared on a square grid of this side, or with `original` at each image's own size.",
        ),
        option(
            "--tolerance",
            "tolerance_px",
            type=click.FloatRange(min=0),
            callback=_finite,
            default=2.0,
            show_default=True,
            metavar="PIXELS",
            help="How far apart Boundary F1 lets two contours lie, in pixels of a 256 grid.",
        ),
        option(
            "--out",
            type=_FOLDER,
            default=Path("medcore-results", name),
            show_default=True,
            help="Folder of the results.",
        ),
        cache_option("calibration/ in --out"),
        resume_option,
    ]


def experiment_options(
    name: str, *, levels: Sequence[Level] = (), default_data: str = "three drawn polyp sets", **fixed: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of every experiment; it is called with `settings` and its own options.

    Args:
        name: Of the experiment; names its default folder of results.
        levels: Default of `--levels`; without any, the command has no such option.
        default_data: What `--data` says that it takes by itself.
        fixed: Fields of `Settings` that the experiment decides.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(
            *,
            data: tuple[str, ...],
            boxes: tuple[str, ...],
            plugin: tuple[str, ...],
            calibration: int | None,
            correction: int | None,
            images: int | None,
            amount: str | None,
            resume: bool,
            **given: Any,
        ) -> None:
            common = {key: given.pop(key) for key in list(given) if key in Settings.__dataclass_fields__}
            settings = Settings(
                counts=_counts(amount or "default", calibration, correction, images),
                data=parse_named(data),
                boxes=parse_named(boxes, "--boxes"),
                plugins=plugin,
                fresh=not resume,
                **{**fixed, **common},
            )
            command(settings=settings, **given)

        for option in reversed(_options(name, levels, default_data)):
            run = option(run)
        return run

    return decorate


def _counts(amount: str, calibration: int | None, correction: int | None, images: int | None) -> Counts:
    given = {"calibration": calibration, "correction": correction, "phantom_images": images, "real_images": images}
    return replace(COUNTS[amount], **{name: value for name, value in given.items() if value is not None})
