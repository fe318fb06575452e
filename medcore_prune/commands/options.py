"""Options that several commands share. What most people need first is an `option`, the rest is `more`."""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from ..data.folders.reading import Reading
from .group import More
from .values import Device, Finite, GridSize, KeyValue, MaskCut, MethodName, OneLevel, TargetType, Whole, Words

__all__ = ["GridSize", "MethodName", "OneLevel", "TargetType", "Whole", "Words"]

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
MODEL_FILE = "FILE|pocket|lite_medsam"
MODEL = Words(("pocket", "lite_medsam"), places="file")

# what there is, by name: who holds it imports torch
PHANTOM_SETS = ("phantom_polyp_a", "phantom_polyp_b", "phantom_polyp_c")
"""What commands work on where no images are given."""
PHANTOMS = (*PHANTOM_SETS, "phantom_ultrasound", "phantom_skin", "phantom_objects")
CONVENTIONS = ("paper", "full")
ONNX_PARTS = ("encoder", "decoder", "whole")
MASK_FORMATS = ("png", "dicom-seg")
PRECISIONS = ("fp32", "tf32", "bf16")
FORMATS = ("onnx", "transformers")
ONNX_EXPORTERS = ("torchscript", "dynamo")

TRAINED = "bf16 where the hardware has it, else tf32 on GPUs that have it, else fp32"
"""What trainings compute in by default."""

more = partial(click.option, cls=More)
"""`click.option` for what `--help` shows under its second heading."""


def all_of(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options in this order."""

    def decorate(command: F) -> F:
        # the last decorator applied is the first option shown
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def model_argument(default: str | None = None, says: str = MODEL_FILE, required: bool = False) -> Callable[[F], F]:
    """Return a decorator that adds the model that a command works on, its first argument.

    Without a default it may be left out for drawn images, for which the built-in model is taken, unless `required`.
    """
    shown = says if required else f"[{says}]"
    return click.argument("model", type=MODEL, metavar=shown, default=default, required=required)


def image_size_option(command: F) -> F:
    """Add `--image-size`."""
    return more(
        "--image-size",
        type=Whole(1),
        metavar="PIXELS",
        help="Another side of the model's square input.  [default: the file's own]",
    )(command)


def data_option(says: str = "drawn images", required: bool = False) -> Callable[[F], F]:
    """Return a decorator that adds `--data`, whose help says what it is by default, and how its folders are read.

    The command gets the words as `data` and the rest as `reading`.
    """
    default = "" if required else f"  [default: {says}]"
    options = all_of(
        click.option(
            "--data",
            multiple=True,
            required=required,
            metavar="NAME=DIR",
            help="A folder of images and masks, and a name for it; may be repeated. NAME=DIR:LAYOUT where the layout "
            f"is not recognised, NAME.boxes=CSV for boxes that are not those of the masks.{default}",
        ),
        more("--skip-bad", is_flag=True, help="Leave out files of --data that cannot be used, name them, and go on."),
        more(
            "--mask-threshold",
            type=MaskCut(),
            metavar=MaskCut.name,
            help="What is stored in a mask of --data above this value is object.  [default: told by the values]",
        ),
        more("--instances", is_flag=True, help="Each connected part of a mask of --data is an object with a box."),
        more(
            "--smallest",
            "smallest_px",
            type=Whole(1),
            default=Reading().smallest_px,
            metavar="PIXELS",
            help="With --instances: parts of fewer pixels are left out.",
        ),
    )

    def decorate(command: F) -> F:
        @wraps(command)
        def gathered(**given: Any) -> Any:
            reading = Reading(**{name: given.pop(name) for name in Reading._fields})
            return command(**given, reading=reading)

        # click keeps the options that are nearer to the function on it
        decorated: F = options(gathered)  # type: ignore[assignment]
        return decorated

    return decorate


def split_seed_option(command: F) -> F:
    """Add `--split-seed`."""
    return more(
        "--split-seed",
        type=Whole(),
        default=0,
        help="Seed of the split into training, validation and test images, where none lies beside the model.",
    )(command)


def device_option(command: F) -> F:
    """Add `--device`."""
    return click.option(
        "--device",
        type=Device(("cpu", "cuda")),
        default="cpu",
        metavar="DEVICE",
        help="Where to compute: cpu, or cuda on a GPU.",
    )(command)


def precision_option(*offered: str, default: str = "tf32 on GPUs that have it, else fp32") -> Callable[[F], F]:
    """Return a decorator that adds `--precision`, of what is offered, and says what is taken by default.

    Any of `PRECISIONS` is taken, so that a refusal can say why.
    """
    listed = ", ".join((offered or PRECISIONS)[:-1]) + f" or {(offered or PRECISIONS)[-1]}"
    return more(
        "--precision",
        type=click.Choice(PRECISIONS),
        metavar="|".join(offered or PRECISIONS),
        help=f"What networks compute in: {listed}. tf32 is for NVIDIA GPUs.  [default: {default}]",
    )


def steps_option(default: int) -> Callable[[F], F]:
    """Return a decorator that adds `--steps` with this default."""
    return click.option(
        "--steps",
        type=Whole(1),
        default=default,
        metavar="N",
        help="Steps of the optimiser, one batch each.",
    )


def batch_size_option(default: int) -> Callable[[F], F]:
    """Return a decorator that adds `--batch-size` with this default."""
    return more("--batch-size", type=Whole(1), default=default, metavar="N", help="Images a step.")


def accumulate_option(command: F) -> F:
    """Add `--accumulate`."""
    return more(
        "--accumulate",
        type=Whole(1),
        metavar="N",
        help="Compute a batch in N equal slices, one after the other, in less memory; processes that train together "
        "share them.  [default: one for each process]",
    )(command)


average_option = click.option(
    "--average",
    is_flag=True,
    help="Average the last weights with those of the start, in the share that has the best Boundary F1 on validation "
    "images.",
)


def learning_rate_option(default: float | None, says: str = "") -> Callable[[F], F]:
    """Return a decorator that adds `--learning-rate` with this default, which `says` tells where it depends."""
    return more(
        "--learning-rate",
        type=Finite(0, min_open=True),
        default=default,
        metavar="RATE",
        help=f"Highest learning rate of the run.{says}",
    )


def resume_option(command: F) -> F:
    """Add `--resume` and `--fresh`."""
    return more("--resume/--fresh", default=True, help="Go on with a stopped run, or start over.")(command)


def overwrite_option(command: F) -> F:
    """Add `--overwrite`."""
    return more("--overwrite", is_flag=True, help="Replace files that are there already.")(command)


VERBOSE = "medcore_prune.verbose"
"""Where a click context keeps whether details are shown."""


def verbose_option(command: F) -> F:
    """Add `--verbose`, which the command does not get: see `work.outputs.said`."""

    def keep(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.meta[VERBOSE] = value

    return more(
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Also show what developers want to know: passes, memory by its parts, losses, residuals.",
    )(command)


def tensorboard_option(command: F) -> F:
    """Add `--tensorboard`."""
    return more(
        "--tensorboard", type=FOLDER, metavar="DIR", help="Also write every step for TensorBoard, with the extra of it."
    )(command)


def ray_option(command: F) -> F:
    """Add `--ray`."""
    return more(
        "--ray",
        metavar="auto|ADDRESS",
        help="Run independent jobs on a Ray cluster: HOST:PORT of one, or auto for one of this machine alone.",
    )(command)


def processes_options(command: F) -> F:
    """Add `--ray` and `--processes` of a training, which go together."""
    return all_of(
        more(
            "--ray",
            metavar="auto|ADDRESS",
            help="Train with other processes on a Ray cluster: HOST:PORT of one, or auto for one of this machine "
            "alone; with --processes.",
        ),
        more("--processes", type=Whole(2), metavar="N", help="With --ray: how many train, this one among them."),
    )(command)


def plugin_option(command: F) -> F:
    """Add `--plugin`."""
    return more(
        "--plugin",
        type=Words((), places="file"),
        multiple=True,
        metavar="FILE|MODULE",
        help="Python code that registers methods of your own; may be repeated.",
    )(command)


def cache_option(says: str, default: Path | None = None) -> Callable[[F], F]:
    """Return a decorator that adds `--cache`, whose help says what it is by default."""
    return more(
        "--cache",
        type=FOLDER,
        default=default,
        show_default=False,
        help=f"Where what calibration collects is kept for the next run.  [default: {says}]",
    )


def convention_option(command: F) -> F:
    """Add `--convention`."""
    return more(
        "--convention",
        type=click.Choice(CONVENTIONS),
        default="paper",
        help="FLOPs counted as in the paper, without padding and neck, or of every product that runs.",
    )(command)


def seed_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds `--seed`, whose help says of what."""
    return more("--seed", type=Whole(), default=0, help=what)


def scoring_options(command: F) -> F:
    """Add `--eval-size` and `--tolerance` (as `tolerance_px`)."""
    return all_of(
        more(
            "--eval-size",
            type=GridSize(),
            default=256,
            metavar=GridSize.name,
            help="Masks are compared on a square grid of this side, or with `original` at each image's own size.",
        ),
        more(
            "--tolerance",
            "tolerance_px",
            type=Finite(0, 1e6),
            default=2.0,
            metavar="PIXELS",
            help="How far apart Boundary F1 lets two contours lie, in pixels of a 256 grid.",
        ),
    )(command)


class Setting(NamedTuple):
    """What one may `--set`.

    Attributes:
        type: Of its value.
        says: What it is, with its default, for help: a few words without a full stop.
    """

    type: click.ParamType
    says: str


def set_option(known: Mapping[str, Setting]) -> Callable[[F], F]:
    """Return a decorator that adds `--set KEY=VALUE` for rare settings; the command gets `rare`, those that are given.

    Args:
        known: Key to what it is.
    """

    def collected(_ctx: click.Context, _param: click.Parameter, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        return dict(pairs)

    listed = "; ".join(f"{key}, {setting.says}" for key, setting in known.items())
    return more(
        "--set",
        "rare",
        type=KeyValue({key: setting.type for key, setting in known.items()}),
        multiple=True,
        callback=collected,
        metavar=KeyValue.name,
        help=f"What is rarely set otherwise; may be repeated: {listed}.",
    )
