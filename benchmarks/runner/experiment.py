"""What all experiments share: the options of their commands, one run at a time, and inputs under an identity."""

import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from ..._support.files import exclusive
from ..._support.version import __version__
from ...calibration.calibrate import calibrate
from ...calibration.collector import Need
from ...calibration.statistics import Statistics
from ...commands.group import INTERRUPTED
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
from ...defaults import DEFAULTS
from ...evaluation.memory import measured
from ...models.sam_shape import SHAPES
from ...pruning.level import Level
from .evaluate import notice
from .inputs import Inputs, load_inputs
from .methods import Method, require_reference
from .settings import COUNTS, Counts, LevelList, Settings, joined
from .store import ResultStore

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


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Hold the folder of results; an interruption ends the command with what to do next.

    Raises:
        ResultsError: Another run holds it.
    """
    try:
        with exclusive(settings.out):
            yield
    except KeyboardInterrupt:
        stored = len(list((settings.out / "cells").glob("**/*.json")))
        what = f"{stored} results are" if stored else "what is finished is"
        click.echo(f"\nstopped; {what} kept in {settings.out}: the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)


def begin(
    settings: Settings,
    experiment: str,
    *,
    methods: Sequence[Method] = (),
    modes: Mapping[str, str] | None = None,
    identity: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> tuple[Inputs, ResultStore]:
    """Load and check everything, so that what is wrong with the inputs is said before any work starts.

    Args:
        settings: What was asked for.
        experiment: Its name, the command's.
        methods: What takes part.
        modes: Name to title of the modes that cells are stored under.
        identity: What else results that share a folder must agree in.
        about: What else `run.json` says.

    Raises:
        MedcorePruneError: Methods, models, data or earlier results that cannot be used.
    """
    inputs = load_inputs(settings)
    require_reference(methods, inputs.reference is not None)
    run = {
        "identity": {
            "experiment": experiment,
            "version": __version__,
            "model": settings.model,
            "image_size": inputs.image_size,
            "inputs": inputs.hashes,
            "role": settings.role,
            "eval_size": settings.eval_size,
            "tolerance_px": settings.tolerance_px,
            "calibration_samples": settings.counts.calibration,
            "split_seed": settings.split_seed,
            "defaults": asdict(DEFAULTS),
            **(identity or {}),
        },
        "notice": notice(inputs),
        "subject": settings.subject,
        "methods": {method.name: method.describe() for method in methods},
        # pairs, since the keys of a stored object come back in the order of the alphabet
        "modes": [list(pair) for pair in (modes or {}).items()],
        "draws": settings.counts.draws,
        "device": settings.device,
        "data": {name: {"images": len(each), "groups": len(set(each.groups))} for name, each in inputs.sets.items()},
        "adapted": settings.adapted.name if settings.adapted else "pocket pair, adapted",
        "reference": settings.reference.name
        if settings.reference
        else ("pocket pair, reference" if inputs.reference else ""),
        **(about or {}),
    }
    return inputs, ResultStore.create(settings.out, run, fresh=settings.fresh)


def calibrated(inputs: Inputs, store: ResultStore, settings: Settings, needs: frozenset[Need]) -> dict[int, Statistics]:
    """Calibrate once for every draw; one calibration serves all methods, levels and modes.

    Args:
        inputs: Models and data.
        store: Where it is noted what calibration took.
        settings: Number of samples and draws, and the cache.
        needs: What to collect; nothing to do where it is empty.

    Returns:
        Number of the draw to its statistics.
    """
    if not needs:
        return {}
    statistics = {}
    samples = settings.counts.calibration
    with measured() as taken:
        for number in range(settings.seeds):
            statistics[number] = calibrate(
                inputs.adapted,
                inputs.reference,
                inputs.calibration(number),
                samples,
                needs,
                cache_dir=settings.calibration_folder,
                seed=number,
                shards=_shards(samples) if number == 0 else None,
            )
    # a run that is gone on with finds most of it stored: what earlier parts took is added
    earlier = store.analysis("calibration") or {}
    record = {
        "needs": sorted({*needs, *earlier.get("needs", [])}),
        "draws": max(len(statistics), earlier.get("draws", 0)),
        "seconds": taken.seconds + earlier.get("seconds", 0.0),
        "peak_bytes": max(taken.peak_bytes, earlier.get("peak_bytes", 0)),
        "samples": statistics[0].counts,
    }
    store.write_analysis("calibration", record)
    return statistics


def _shards(samples: int) -> list[int]:
    """Where the stability of rankings is looked at: a quarter and a half of the samples, an eighth of many."""
    return sorted({max(1, samples // part) for part in ((8, 4, 2) if samples >= 64 else (4, 2))})
