"""Several plans corrected together beside one after another (`python -m ...benchmarks.speed.correction`).

The same models, cut from the pocket pair's adapted one by several levels, in turn, in one run: each by a correction of
its own, which shares images and token weights with the others, and all with the teacher's streams shared too. The
weights are the same; how often the teacher runs its blocks is counted. The ratio is what counts: both ways share the
machine and its load.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ...correction.correct import TOGETHER, Corrector
from ...correction.settings import CorrectionSettings
from ...data import phantoms
from ...models.families import blocks_of
from ...pruning.planning import make_plan
from ...pruning.surgery import prune
from ...zoo import pocket
from .timed import REPEATS, Run, median_ms, ratios, recorded, rounds_of, seconds

LEVELS = ("h40_m30", "h50_m70", "h70_m70", "h84_m95")


@click.command()
@REPEATS
@click.option("--models", type=click.IntRange(1), default=TOGETHER, show_default=True, help="Models to correct.")
@click.option("--images", type=click.IntRange(1), default=16, show_default=True)
@recorded
def command(repeats: int, models: int, images: int, run: Run) -> None:
    """Print milliseconds an image and model of both ways, how often the teacher runs, and the ratios, as JSON."""
    about = {"model": "pocket", "models": models, "images": images, "repeats": repeats}
    run.record("correction", about, lambda: measure(pocket("adapted", run.device), models, images, repeats))


def measure(teacher: nn.Module, models: int = TOGETHER, images: int = 16, repeats: int = 7) -> dict[str, Any]:
    """Time both ways in turn.

    `<way>_ms` and `<way>_teacher_runs`, how often each of the teacher's blocks runs, an image and model;
    `together_over_alone` and `alone_over_together` for the time, with the lowest and highest of each;
    `largest_difference` of any weight relative to the largest of its parameter.
    """
    data = {"phantoms": phantoms.make("phantom_polyp_a", count=images)}
    corrector = Corrector(teacher, data, CorrectionSettings(), images, progress=False, keep=True)
    plans = [make_plan(teacher, LEVELS[number % len(LEVELS)]) for number in range(models)]
    ways: dict[str, Callable[[Sequence[nn.Module]], object]] = {
        "alone": lambda smalls: [corrector.correct(small) for small in smalls],
        "together": corrector.correct_all,
    }
    device = next(teacher.parameters())
    made: dict[str, list[nn.Module]] = {}

    def take() -> dict[str, float]:
        taken = {}
        for name, way in ways.items():
            made[name] = [prune(teacher, plan) for plan in plans]
            taken[name] = seconds(partial(way, made[name]), device) / (images * models)
        return taken

    # images are read and weighed once for both
    corrector.correct(prune(teacher, plans[0]))
    rounds = rounds_of(take, repeats)
    result: dict[str, Any] = {f"{name}_ms": median_ms(rounds, name) for name in ways}
    for name, way in ways.items():
        runs = _runs_of(teacher, partial(way, [prune(teacher, plan) for plan in plans]))
        result[f"{name}_teacher_runs"] = round(runs / (images * models), 3)
    result |= ratios(rounds, ("together", "alone"), ("alone", "together"))
    result["largest_difference"] = max(map(_difference, made["alone"], made["together"]))
    return result


def _runs_of(teacher: nn.Module, work: Callable[[], object]) -> int:
    """How many images the teacher's blocks run on, two more than there are to check the streams of a correction.

    The least of all blocks: the first one is also asked for what it reads.
    """
    seen = dict.fromkeys([teacher.get_submodule(block.name) for block in blocks_of(teacher)], 0)

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if module in seen:
            seen[module] += len(args[0])

    # of all modules, since one that has a hook of its own is not pruned
    handle = register_module_forward_pre_hook(see)
    try:
        work()
    finally:
        handle.remove()
    return min(seen.values())


@torch.no_grad()
def _difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=torch.finfo(a.dtype).tiny)) for a, b in pairs)


if __name__ == "__main__":
    command()
