"""Memory that reading many images from files takes (`python -m medcore_prune.benchmarks.speed.memory`).

Phantoms, each moved and under noise of its own, are written as files into a temporary folder. At each count a program
of its own opens the folder and reads all images as an evaluation does, in batches, and then up to a thousand again that
it has not kept: its peak of resident memory beside what the inputs of all images would take. No encoder runs.
"""

import itertools
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from ...data.folders.folder import folder
from ...data.frame import Frame
from ...data.phantoms.catalogue import make
from ...evaluation.images import EvaluationSet
from .timed import Run, recorded

COUNTS = (1000, 3000, 10000)
KEPT_BYTES = 20_000_000
"""Of images that an evaluation keeps for the next model: a hundred of 256 pixels."""
BATCH = 8
_DRAWN, _AGAIN, _NOISE = 50, 1000, 12


@click.command()
@click.option("--size", type=click.IntRange(32), default=256, show_default=True, help="Side of images and inputs.")
@click.option("--counts", default=",".join(map(str, COUNTS)), show_default=True, help="Images, ascending.")
@recorded
def command(size: int, counts: str, run: Run) -> None:
    """Print the peak of memory at each count of images, as JSON."""
    numbers = sorted(map(int, counts.split(",")))
    about = {"size": size, "batch_size": BATCH, "kept_mb": KEPT_BYTES / 1e6}
    run.record("memory", about, lambda: measure(size, numbers, run.threads))


def measure(size: int, counts: Sequence[int], threads: int = 1) -> dict[str, Any]:
    """Write images and read them at each count.

    `counts`; `peaks_mb` of each count and `opened_mb`, of which before the first image was asked for; `inputs_mb`, of
    all images as float32; `kb_an_image`, by which the peak grows from the first count to the last.
    """
    found: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as place:
        for before, count in zip((0, *counts), counts, strict=False):
            write_images(Path(place), range(before, count), size)
            # spawned, so that nothing of this program's memory is in it
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                found.append(apart.submit(peaks, Path(place), size, threads).result())
    opened, most = zip(*found, strict=True)
    return {
        "counts": list(counts),
        "opened_mb": [round(each / 1e6, 1) for each in opened],
        "peaks_mb": [round(each / 1e6, 1) for each in most],
        "inputs_mb": [round(count * 3 * 4 * size**2 / 1e6, 1) for count in counts],
        "kb_an_image": round((most[-1] - most[0]) / max(1, counts[-1] - counts[0]) / 1e3, 2),
    }


def write_images(place: Path, numbers: Sequence[int], size: int) -> None:
    """Write an image and a mask for each number: one of a few phantoms, moved round, under noise of its own."""
    drawn = list(make("phantom_polyp_a", count=_DRAWN, size=size))
    for part in ("images", "masks"):
        (place / part).mkdir(exist_ok=True)
    for number in numbers:
        rng, sample = np.random.default_rng(number), drawn[number % _DRAWN]
        by = tuple(rng.integers(size, size=2).tolist())
        noisy = np.roll(sample.image, by, (0, 1)).astype(np.int16)
        noisy += rng.integers(-_NOISE, _NOISE + 1, noisy.shape, dtype=np.int16)
        image, mask = noisy.clip(0, 255).astype(np.uint8), np.roll(sample.mask, by, (0, 1))
        Image.fromarray(image).save(place / "images" / f"{number:06d}.jpg", quality=90)
        Image.fromarray(mask.astype(np.uint8) * 255).save(place / "masks" / f"{number:06d}.png")


def peaks(place: Path, size: int, threads: int) -> tuple[int, int]:
    """Peak bytes of this program when it has opened a folder, and when it has read all of it and some again."""
    torch.set_num_threads(threads)
    samples = folder(place)
    opened = _peak_bytes()
    images = EvaluationSet(samples, Frame(size), kept_bytes=KEPT_BYTES)
    for most in (None, _AGAIN // BATCH):
        for _ in itertools.islice(images.batches(BATCH), most):
            pass
    return opened, _peak_bytes()


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # what `getrusage` says counts the program that started this one
        lines = status.read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    command()
