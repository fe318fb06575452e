"""What a comparison is asked to do: counts for a quick, a default and a full run, and everything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from ..._support.errors import BudgetError
from ...commands.values import Completed, MethodName, OneLevel, Whole
from ...evaluation.evaluate import EvalSize
from ...pruning.level import COMPARISON_LEVELS, Level

Mode = Literal["own", "same"]
MODES: dict[str, str] = {
    "own": "own quotas",
    "same": "same per-block budget",
    "corrected": "own quotas, then corrected",
}
"""What the comparison looks at: each method's own quotas as the paper, uniform quotas for all, which isolates the
score, and own quotas followed by the training-free correction (METHOD section 12)."""
CORRECTED, CORRECTED_FROM = "corrected", "own"
"""The mode of corrected plans, and the one that they are taken from."""
QUOTA_MODES: tuple[Mode, ...] = ("own", "same")
"""Those in which plans are made; `corrected` takes the plans of `own`."""

SUBJECT = "medcore"
"""The method that is compared with each other one."""

PHANTOM_SETS = ("phantom_polyp_a", "phantom_polyp_b", "phantom_polyp_c")


@dataclass(frozen=True)
class Counts:
    """How much of everything.

    Attributes:
        phantom_images: Test images of each phantom set.
        real_images: Test images of each real set at most; None for all.
        calibration: Calibration samples of each set.
        random_seeds: Seeds that a stochastic method is averaged over.
        exact_units: Heads, and as many neurons, that the exact interventions are run for.
        exact_images: Calibration images of each set that they are run on.
        gallery_images: Images of each set that the gallery shows.
        draws: Of the bootstrap.
        correction: Calibration images of each set that the training-free correction reads.
        corrected_seeds: Seeds of a stochastic method that are corrected too.
        training: Phantom images of each set that a recovery trains on.
        validation: Phantom images of each set that choose its weights.
        recovery_steps: Optimiser steps of a recovery.
    """

    phantom_images: int
    real_images: int | None
    calibration: int
    random_seeds: int
    exact_units: int
    exact_images: int
    gallery_images: int
    draws: int
    correction: int
    corrected_seeds: int
    training: int
    validation: int
    recovery_steps: int


COUNTS = {
    "quick": Counts(4, 4, 4, 5, 4, 2, 1, 500, 4, 1, 16, 4, 4),
    "default": Counts(16, None, 32, 5, 20, 4, 2, 5000, 8, 1, 64, 16, 120),
    "full": Counts(120, None, 128, 10, 96, 16, 4, 10000, 64, 5, 200, 32, 400),
}


@dataclass(frozen=True)
class Settings:
    """A comparison, as asked for on the command line.

    Attributes:
        out: Folder of the results.
        counts: How much of everything.
        model: A name in `encoders.SHAPES`.
        adapted, reference: Checkpoints; None for the pocket pair.
        data: Data set name to folder; empty for the phantom polyp sets.
        boxes: Data set name to a CSV file of box prompts in place of those of the masks.
        layout: Of the folders.
        image_size: Input side in pixels, if not the model's own.
        levels: What is asked to go.
        methods: Names; empty for all but the slow ones.
        plugins: Files or modules that register more.
        subject: The method that is compared with each other one.
        seeds: Calibration samples to draw, one after the other.
        split_seed: Of the roles of real images.
        role: `test`, or `validation` for settling open choices.
        device: Where models run.
        eval_size: Side in pixels of the grid that masks are compared on, or `original`.
        tolerance_px: Of Boundary F1, in pixels of the 256 grid.
        batch_size: Images a forward pass.
        cache: Folder of calibration statistics; None for one within `out`.
        phantom_sets: Data sets of this package to take where `data` is empty.
        gallery: Whether pictures of the images are kept.
        correct: Whether every pruned model is evaluated after the training-free correction too.
        fresh: Whether to start over.
    """

    out: Path
    counts: Counts = COUNTS["default"]
    model: str = "pocket"
    adapted: Path | None = None
    reference: Path | None = None
    data: Mapping[str, Path] | None = None
    boxes: Mapping[str, Path] | None = None
    layout: str = "auto"
    image_size: int | None = None
    levels: tuple[Level, ...] = COMPARISON_LEVELS
    methods: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    subject: str = SUBJECT
    seeds: int = 1
    split_seed: int = 0
    role: Literal["test", "validation"] = "test"
    device: str = "cpu"
    eval_size: EvalSize = 256
    tolerance_px: float = 2.0
    batch_size: int = 16
    cache: Path | None = None
    phantom_sets: tuple[str, ...] = PHANTOM_SETS
    gallery: bool = True
    correct: bool = True
    fresh: bool = False

    @property
    def calibration_folder(self) -> Path:
        """Where statistics are kept."""
        return self.cache or self.out / "calibration"

    @property
    def recoveries_folder(self) -> Path:
        """Where recovered models are kept, shared by the experiments that lie beside each other."""
        return self.out.parent / "recoveries"


F = TypeVar("F", bound=Callable[..., Any])


class LevelList(Completed):
    """Levels separated by commas, such as `h50_m70,h70_m70`; a repeated one counts once."""

    name = "level,..."
    words = OneLevel.words
    several = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Level, ...]:
        """Read the levels, or end with a usage error that names the bad one."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(Level.parse(text) for text in str(value).split(",")))
        except BudgetError as error:
            self.fail(str(error), param, ctx)


def joined(levels: tuple[Level, ...], between: str = ",") -> str:
    """Write levels as `LevelList` reads them, or with spaces `between` them, for help to break lines at."""
    return between.join(map(str, levels))


def method_option(command: F) -> F:
    """Add `--method`."""
    return click.option(
        "--method",
        type=MethodName(),
        default=SUBJECT,
        show_default=True,
        metavar="METHOD",
        help="The method whose scores choose what goes; `medcore-bench list` explains them.",
    )(command)


def methods_option(**options: Any) -> Callable[[F], F]:
    """Return a decorator that adds `--methods`."""
    return click.option("--methods", type=MethodName(several=True), metavar="METHOD,...", **options)


def steps_option(command: F) -> F:
    """Add `--steps`."""
    counts = f"{COUNTS['default'].recovery_steps}; {COUNTS['quick'].recovery_steps} with --quick, "
    return click.option(
        "--steps",
        type=Whole(1),
        metavar="N",
        help=f"Steps of the optimiser in a recovery.  [default: {counts}{COUNTS['full'].recovery_steps} with --full]",
    )(command)


def results_option(*names: str, default: Path | None, says: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for a folder of results."""
    return click.option(
        *names, type=click.Path(file_okay=False, path_type=Path), default=default, show_default=True, help=says
    )


def page_option(default: str) -> Callable[[F], F]:
    """Return a decorator that adds `--out` of a study, which writes one page."""
    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        help="The page, Markdown; the same as JSON goes beside it.",
    )


def count_option(name: str, default: int, says: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for how many there are of something."""
    return click.option(name, type=Whole(1), default=default, show_default=True, metavar="N", help=says)
