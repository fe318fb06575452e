"""Time of our metrics beside MONAI's, in one run (`python -m medcore_prune.benchmarks.speed.metrics`).

The ratio is what counts: all sides share the machine and its load. Ours computes Dice, IoU, Boundary F1 at three
tolerances and HD95 at once; MONAI's HD95 alone, and its Dice, surface Dice and HD95 one after the other, as one would
take them for the same report.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from ...evaluation.metrics import evaluate_mask
from .timed import REPEATS, Run, ratios, recorded, rounds_of, seconds

Pair = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
_TOLERANCE_PX = 2.0


@click.command()
@click.option("--size", default=256, show_default=True, help="Side of the masks in pixels.")
@click.option("--count", default=40, show_default=True, help="Number of pairs of masks.")
@REPEATS
@recorded
def command(size: int, count: int, repeats: int, run: Run) -> None:
    """Print milliseconds a pair of masks, ours and MONAI's, and their ratios, as JSON."""
    about = {"size": size, "count": count, "repeats": repeats}
    run.record("metrics", about, lambda: measure(size, count, repeats), "monai")


def measure(size: int = 256, count: int = 40, repeats: int = 7) -> dict[str, Any]:
    """Time all sides in turn on `count` pairs of masks.

    `ours_ms`, `monai_hd95_ms` and `monai_all_ms` a pair; how many times ours that is, `monai_hd95_over_ours` and
    `monai_all_over_ours`, with the lowest and highest of each; `largest_difference` of the Dice, and
    `largest_difference_px` of HD95.
    """
    try:
        from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
    except ImportError as error:
        raise click.ClickException('MONAI is not installed: pip install "medcore-prune[dev]"') from error

    def hd95(pred: Tensor, true: Tensor) -> float:
        return float(compute_hausdorff_distance(pred, true, include_background=True, percentile=95))

    def dice(pred: Tensor, true: Tensor) -> float:
        return float(compute_dice(pred, true, include_background=True))

    def everything(pred: Tensor, true: Tensor) -> tuple[float, float, float]:
        surface = compute_surface_dice(pred, true, [_TOLERANCE_PX], include_background=True)
        return dice(pred, true), float(surface), hd95(pred, true)

    pairs = [lesion_pair(seed, size) for seed in range(count)]
    ways = {
        "ours": partial(_each, pairs, evaluate_mask),
        "monai_hd95": partial(_each, pairs, lambda *pair: hd95(*_tensors(pair))),
        "monai_all": partial(_each, pairs, lambda *pair: everything(*_tensors(pair))),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        rounds = rounds_of(lambda: {name: seconds(way) / count for name, way in ways.items()}, repeats)
        ours, theirs = (ways[name]() for name in ("ours", "monai_all"))
    found: dict[str, Any] = {f"{name}_ms": round(1e3 * float(np.median(_of(rounds, name))), 3) for name in ways}
    both = list(zip(ours, theirs, strict=True))
    return {
        **found,
        **ratios(rounds, ("monai_hd95", "ours"), ("monai_all", "ours")),
        "largest_difference": max(abs(own.dice - other[0]) for own, other in both),
        "largest_difference_px": max(abs(own.hd95_px - other[2]) for own, other in both),
    }


def _of(rounds: Sequence[dict[str, float]], name: str) -> list[float]:
    return [taken[name] for taken in rounds]


def _tensors(pair: Sequence[npt.NDArray[np.bool_]]) -> tuple[Tensor, Tensor]:
    pred, true = (torch.from_numpy(mask)[None, None] for mask in pair)
    return pred, true


def _each(pairs: Sequence[Pair], compute: Callable[..., Any]) -> list[Any]:
    return [compute(*pair) for pair in pairs]


def lesion_pair(seed: int, size: int) -> Pair:
    """Make two masks that differ as a prediction does from the truth: one blob with different ragged contours."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - rng.uniform(0.35, 0.65, (2, 1, 1))
    radius = rng.uniform(0.12, 0.3)
    rough = ndimage.gaussian_filter(rng.standard_normal((2, size, size)), (0, size / 24, size / 24))
    rough /= rough.std()
    distance = np.hypot(x, y * rng.uniform(0.7, 1.4))
    return distance < radius * (1 + 0.1 * rough[0]), distance < radius * (1 + 0.1 * rough[1])


if __name__ == "__main__":
    command()
