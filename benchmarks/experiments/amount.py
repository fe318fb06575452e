"""How much work a comparison is, and how long it will take: said before it starts."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from ...correction.search.alone import PROBES
from ...correction.search.settings import CANDIDATES, IMAGES
from ...models.groups import groups_of
from ..runner.evaluate import FLOOR_NAMES, Evaluator, notice, seconds_an_image
from ..runner.inputs import Inputs
from ..runner.jobs import EXPERIMENT
from ..runner.methods import Method
from ..runner.settings import CORRECTED, CORRECTED_FROM, MODES, QUOTA_MODES, SEARCHED, Settings
from ..runner.store import NO_LEVEL, UNPRUNED, Cell


@dataclass(frozen=True)
class Amount:
    """Work to do: results in all, those that an earlier run left, and distinct plans at most.

    `images` are those of all test sets, `corrected` the plans that are corrected and evaluated again or besides,
    `searched` those of them that are searched first.
    """

    cells: int
    stored: int
    plans: int
    images: int
    corrected: int = 0
    searched: int = 0

    @property
    def predictions(self) -> int:
        """Masks to predict at most, with nothing stored."""
        return (self.plans + self.corrected) * self.images


def places(methods: Sequence[Method], sets: Iterable[str], settings: Settings) -> set[Cell]:
    """Where the results of a comparison will lie."""
    most = settings.counts.corrected_seeds
    units: set[tuple[str, str, str, int]] = {
        (mode, m.name, str(level), seed)
        for mode in QUOTA_MODES
        for m in methods
        for level in settings.levels
        for seed in m.seeds
    }
    if settings.correct:
        few = {(m.name, seed) for m in methods for seed in m.seeds if seed < most or not m.recipe.stochastic}
        units |= {
            (CORRECTED, name, level, seed)
            for mode, name, level, seed in units
            if mode == CORRECTED_FROM and (name, seed) in few
        }
    if settings.search:
        units |= {(SEARCHED, m.name, str(level), m.seeds[0]) for m in methods for level in settings.levels}
    units |= {("any", name, NO_LEVEL, 0) for name in (*FLOOR_NAMES.values(), UNPRUNED)}
    return {Cell(EXPERIMENT, mode, name, level, dataset, seed) for mode, name, level, seed in units for dataset in sets}


def amount(methods: Sequence[Method], inputs: Inputs, settings: Settings, stored: Collection[Cell]) -> Amount:
    """Count results and distinct plans: a method with uniform quotas arrives at the same plan in both modes.

    `stored` is what the folder of results holds, of other methods and levels too.
    """
    cells = places(methods, inputs.sets, settings)
    corrected, searched = (
        sum(cell.mode == mode for cell in cells) // len(inputs.sets) for mode in (CORRECTED, SEARCHED)
    )
    levels = len(settings.levels)
    plans = levels * sum(len(m.seeds) * (1 if m.recipe.quotas == "uniform" else len(QUOTA_MODES)) for m in methods) + 1
    images = sum(map(len, inputs.sets.values()))
    return Amount(len(cells), len(cells & set(stored)), plans, images, corrected + searched, searched)


def estimated_seconds(evaluator: Evaluator, methods: Sequence[Method], work: Amount) -> float:
    """Estimate the whole run from the time of one image.

    A calibration sample takes a forward pass and two backward passes of twice its length in each model; the exact
    interventions that scores are held against run a sample once for each unit and intervention, and so does a method
    that is made of them, of all units.
    """
    counts, models = evaluator.settings.counts, 1 if evaluator.inputs.reference is None else 2
    calibrated = any(method.needs for method in methods)
    passes = 5 * models * counts.calibration * evaluator.settings.seeds if calibrated else 0
    passes += 2 * models * counts.exact_units * counts.exact_images if calibrated else 0
    # a correction runs the dense and the cut encoder, and the cut one again after each layer that it solves
    passes += 4 * work.corrected * counts.correction
    states = work.searched * evaluator.settings.generations * CANDIDATES
    # what each block costs alone serves all levels of a method
    states += len(methods) * PROBES * len(groups_of(evaluator.inputs.adapted)) if work.searched else 0
    seen = states * IMAGES
    exact = models * exact_runs(methods, evaluator.inputs)
    return seconds_an_image(evaluator) * (work.predictions + seen + passes * len(evaluator.inputs.sets) + exact)


def exact_runs(methods: Sequence[Method], inputs: Inputs) -> float:
    """Passes that methods which run the network for each unit take an intervention; each begins at the unit's block."""
    rounds = sum(len(method.seeds) for method in methods if method.recipe.cost == "slow" and method.recipe.reads_images)
    if not rounds:
        return 0.0
    groups = groups_of(inputs.adapted)
    blocks = 1 + max(group.block for group in groups)
    units = sum(group.n_units * (1 - group.block / blocks) for group in groups)
    return rounds * units * sum(map(len, inputs.calibration(0).values()))


def describe(methods: Sequence[Method], inputs: Inputs, settings: Settings, work: Amount) -> list[str]:
    """Say what is about to be done, a line each."""
    names = ", ".join(f"{m.name} x {len(m.seeds)}" if len(m.seeds) > 1 else m.name for m in methods)
    data = ", ".join(f"{len(samples)} of {name}" for name, samples in inputs.sets.items())
    reference = "with its reference" if inputs.reference is not None else "without a reference"
    lines = [
        f"model: {inputs.kind} at {inputs.frame.size} px, {reference}, on {settings.device}"
        f" ({torch.get_num_threads()} threads)",
        f"{settings.role} images: {data}",
        f"methods: {names}",
        f"levels: {', '.join(map(str, settings.levels))}, with "
        + "; with ".join(title for mode, title in MODES.items() if mode in _modes(settings)),
        f"work: {work.cells} results (one for each method, level, mode, seed and data set)"
        f"{f', {work.stored} stored already' if work.stored else ''}; at most {work.plans} "
        f"distinct plans, {work.predictions} masks",
    ]
    return [notice(inputs, settings), *lines]


def _modes(settings: Settings) -> list[str]:
    """The modes that a comparison makes plans for, or corrects them in."""
    return [*QUOTA_MODES, *([CORRECTED] if settings.correct else []), *([SEARCHED] if settings.search else [])]
