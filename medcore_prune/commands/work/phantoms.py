"""What `medcore-prune phantoms` does: draw images with exact masks into a new folder."""

from pathlib import Path

import click
import numpy as np

from ..._support.errors import DataError
from ..._support.files import atomic_write, require_writable
from ..._support.progress import track
from ...data import phantoms
from ...data.phantoms.marked import save_drawn


def run(name: str, count: int, size: int, seed: int, out: Path) -> None:
    """Draw the images, whole folder or none of yours mixed in."""
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"--out {out} is not empty: choose a folder that is new, so that nothing of yours is mixed in")
    require_writable(out)
    rows = ["name,x0,y0,x1,y1"]
    samples = phantoms.make(name, seed=seed, count=count, size=size)
    for sample in track(samples, "drawing phantoms", total=count):
        pictures = {"images": sample.image, "masks": sample.mask.astype(np.uint8) * 255}
        for kind, pixels in pictures.items():
            with atomic_write(out / kind / f"{sample.name}.png") as temporary:
                save_drawn(pixels, temporary)
        rows.append(",".join([sample.name, *(f"{corner:g}" for corner in sample.box)]))
    with atomic_write(out / "boxes.csv") as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    click.echo(f"written: {count} images with masks in {out}, first {samples.ids[0]}")
