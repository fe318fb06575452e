"""`medcore-prune phantoms`: drawn images with exact masks as a folder, to try the other commands on."""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from .._support.errors import DataError
from .._support.files import atomic_write, require_writable
from .._support.progress import track
from ..data import phantoms
from .options import FOLDER, seed_option


@click.command(name="phantoms")
@click.option(
    "--set",
    "name",
    type=click.Choice(phantoms.available()),
    default="phantom_polyp_a",
    show_default=True,
    metavar="SET",
    help=f"What to draw: {', '.join(phantoms.available())}.",
)
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=12, show_default=True, metavar="N", help="How many images."
)
@click.option(
    "--size",
    type=click.IntRange(32, 4096),
    default=128,
    show_default=True,
    metavar="PIXELS",
    help="Side of the square images.",
)
@seed_option("Seed of the drawing; another one gives other images.")
@click.option(
    "--out", type=FOLDER, default=Path("phantoms"), show_default=True, help="Folder to write, which is new or empty."
)
def command(name: str, count: int, size: int, seed: int, out: Path) -> None:
    """Draw phantom images with masks into a folder, to try the tool on.

    Writes images/ and masks/ with equal names, and boxes.csv with the box of
    every mask: the layout that --data reads, and the table that the command
    predict reads with --boxes. Drawn images, not clinical data.

    \b
    Example:
      medcore-prune phantoms --out phantoms
    """
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"--out {out} is not empty: choose a folder that is new, so that nothing of yours is mixed in")
    require_writable(out)
    rows = ["name,x0,y0,x1,y1"]
    samples = phantoms.make(name, seed=seed, count=count, size=size)
    for sample in track(samples, "drawing phantoms", total=count):
        pictures = {"images": sample.image, "masks": sample.mask.astype(np.uint8) * 255}
        for kind, pixels in pictures.items():
            with atomic_write(out / kind / f"{sample.name}.png") as temporary:
                Image.fromarray(pixels).save(temporary)
        rows.append(",".join([sample.name, *(f"{corner:g}" for corner in sample.box)]))
    with atomic_write(out / "boxes.csv") as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    click.echo(f"written: {count} images with masks in {out}, first {samples.ids[0]}")
