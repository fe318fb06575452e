"""Time of our metrics beside MONAI's HD95, in one run (`python -m medcore_prune.benchmarks.speed.metrics`).

The ratio is what counts: both sides share the machine and its load. Ours computes Dice, IoU, boundary F1 at three
tolerances and HD95, MONAI's computes HD95 alone.
"""

import json
import time
import warnings
from collections.abc import Callable, Sequence

import click
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from ...evaluation.metrics import evaluate_mask

Pair = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


@click.command()
@click.option("--size", default=256, show_default=True, help="Side of the masks in pixels.")
@click.option("--count", default=40, show_default=True, help="Number of pairs of masks.")
@click.option("--repeats", default=5, show_default=True, help="Runs of each side, in turn; the fastest counts.")
def command(size: int, count: int, repeats: int) -> None:
    """Print milliseconds a pair of masks, ours and MONAI's, and their ratio, as JSON."""
    click.echo(json.dumps(measure(size, count, repeats), indent=1))


def measure(size: int = 256, count: int = 40, repeats: int = 5) -> dict[str, float]:
    """Time both sides in turn on `count` pairs of masks; the fastest of the repeats counts.

    `ours_ms` and `monai_ms` a pair, `ratio` (below 1: ours is faster), `largest_difference_px` of HD95.
    """
    try:
        from monai.metrics import compute_hausdorff_distance
    except ImportError as error:
        raise click.ClickException('MONAI is not installed: pip install "medcore-prune[dev]"') from error

    def monai_hd95(pred: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
        y_pred, y = (torch.from_numpy(mask)[None, None] for mask in (pred, true))
        return float(compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95))

    def our_hd95(pred: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
        return evaluate_mask(pred, true).hd95_px

    pairs = [lesion_pair(seed, size) for seed in range(count)]
    times: dict[str, list[float]] = {"ours": [], "monai": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for _ in range(repeats):
            times["ours"].append(_seconds(our_hd95, pairs))
            times["monai"].append(_seconds(monai_hd95, pairs))
        difference = max(abs(our_hd95(*pair) - monai_hd95(*pair)) for pair in pairs)
    ours_ms, monai_ms = (1e3 * min(times[side]) / count for side in ("ours", "monai"))
    return {
        "ours_ms": round(ours_ms, 3),
        "monai_ms": round(monai_ms, 3),
        "ratio": round(ours_ms / monai_ms, 3),
        "largest_difference_px": difference,
    }


def lesion_pair(seed: int, size: int) -> Pair:
    """Make two masks that differ as a prediction does from the truth: one blob with different ragged contours."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - rng.uniform(0.35, 0.65, (2, 1, 1))
    radius = rng.uniform(0.12, 0.3)
    rough = ndimage.gaussian_filter(rng.standard_normal((2, size, size)), (0, size / 24, size / 24))
    rough /= rough.std()
    distance = np.hypot(x, y * rng.uniform(0.7, 1.4))
    return distance < radius * (1 + 0.1 * rough[0]), distance < radius * (1 + 0.1 * rough[1])


def _seconds(compute: Callable[..., float], pairs: Sequence[Pair]) -> float:
    start = time.perf_counter()
    for pair in pairs:
        compute(*pair)
    return time.perf_counter() - start


if __name__ == "__main__":
    command()
