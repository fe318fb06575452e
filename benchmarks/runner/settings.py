"""What a comparison is asked to do: counts for a quick, a default and a full run, and everything else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...commands.options import PHANTOM_SETS
from ...correction.search.settings import GENERATIONS
from ...data.folders.reading import AS_IT_IS, Reading
from ...pruning.level import COMPARISON_LEVELS, Level

Mode = Literal["own", "same"]
MODES: dict[str, str] = {
    "own": "own quotas",
    "same": "same per-block budget",
    "corrected": "own quotas, then corrected",
    "searched": "searched budget, then corrected",
}
"""What the comparison looks at: each method's own quotas as the paper, uniform quotas for all, which isolates the
score, own quotas followed by the training-free correction (METHOD section 12), and each method's order of units under a
budget that is searched for it (section 15), corrected too."""
SEARCHED = "searched"
CORRECTED, CORRECTED_FROM = "corrected", "own"
"""The mode of corrected plans, and the one that they are taken from."""
QUOTA_MODES: tuple[Mode, ...] = ("own", "same")
"""Those in which plans are made; `corrected` takes the plans of `own`."""

SUBJECT = "medcore"
"""The method that is compared with each other one."""


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
    "quick": Counts(4, 4, 4, 5, 4, 2, 1, 2000, 4, 1, 16, 4, 4),
    "default": Counts(16, None, 32, 5, 20, 4, 2, 5000, 8, 1, 64, 16, 300),
    "full": Counts(120, None, 128, 10, 96, 16, 4, 10000, 64, 5, 200, 32, 400),
}


@dataclass(frozen=True)
class Settings:
    """A comparison, as asked for on the command line.

    Attributes:
        out: Folder of the results.
        counts: How much of everything.
        adapted, reference: Checkpoints, or names of built-in models; None for the pocket pair.
        data: Words of `--data`; empty for the phantom polyp sets.
        reading: How their folders are read.
        levels: What is asked to go.
        methods: Names; empty for all but the slow ones.
        plugins: Files or modules that register more.
        subject: The method that is compared with each other one.
        seeds: Calibration samples to draw, one after the other.
        split_seed: Of the roles of real images.
        role: `test`, or `validation` for settling open choices.
        device: Where models run.
        precision: What they compute in, of `fp32` and `tf32`; None for the default of the device.
        eval_size: Side in pixels of the grid that masks are compared on, or `original`.
        tolerance_px: Of Boundary F1, in pixels of the 256 grid.
        batch_size: Images a forward pass, where there is memory for so many.
        cache: Folder of calibration statistics; None for one within `out`.
        phantom_sets: Data sets of this package to take where `data` is empty.
        validation: Images of each set that choose a recovery's weights, at most; None for all real ones, and for as
            many drawn ones as `counts` says.
        recovery_batch: Images a step of a recovery; None for the default of `RecoverySettings`.
        recovery_rate: Its learning rate; None for the default.
        recovery_precision: What it computes in, of `fp32`, `tf32` and `bf16`; None for what all of the run does.
        recovery_average: Whether its last weights are averaged with those that it started from.
        gallery: Whether pictures of the images are kept.
        correct: Whether every pruned model is evaluated after the training-free correction too.
        search: Whether budgets are searched too, for every method and level.
        generations: Of each search.
        fresh: Whether to start over.
        ray: Address of a Ray cluster, or `auto`; None for this process.
    """

    out: Path
    counts: Counts = COUNTS["default"]
    adapted: str | None = None
    reference: str | None = None
    data: tuple[str, ...] = ()
    reading: Reading = AS_IT_IS
    levels: tuple[Level, ...] = COMPARISON_LEVELS
    methods: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    subject: str = SUBJECT
    seeds: int = 1
    split_seed: int = 0
    role: Literal["test", "validation"] = "test"
    device: str = "cpu"
    precision: str | None = None
    eval_size: int | Literal["original"] = 256
    tolerance_px: float = 2.0
    batch_size: int = 16
    cache: Path | None = None
    phantom_sets: tuple[str, ...] = PHANTOM_SETS
    validation: int | None = None
    recovery_batch: int | None = None
    recovery_rate: float | None = None
    recovery_precision: str | None = None
    recovery_average: bool = False
    gallery: bool = True
    correct: bool = True
    search: bool = False
    generations: int = GENERATIONS
    fresh: bool = False
    ray: str | None = None

    @property
    def calibration_folder(self) -> Path:
        """Where statistics are kept."""
        return self.cache or self.out / "calibration"

    @property
    def recoveries_folder(self) -> Path:
        """Where recovered models are kept, shared by the experiments that lie beside each other."""
        return self.out.parent / "recoveries"
