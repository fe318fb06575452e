"""`medcore-bench latency`."""

from pathlib import Path
from typing import Any

import click

from ...commands.options import MODEL, Whole, image_size_option, more, overwrite_option
from ...commands.values import Completed, Words
from ...models.sam_shape import SHAPES
from .options import LevelList, count_option, results_option
from .words import BenchCommand

KINDS = (*MODEL.words, *(kind for kind in SHAPES if kind not in MODEL.words))


class ThreadList(Completed):
    """Numbers of threads separated by commas, such as `1,2`; a repeated one counts once."""

    name = "n,..."
    words = ("1", "2", "4")
    several = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the numbers, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(Whole(1).convert(text, param, ctx) for text in str(value).split(",")))


@click.command(name="latency", cls=BenchCommand)
@click.argument("models", nargs=-1, type=Words(KINDS, places="file"), metavar="[FILE|pocket|lite_medsam|vit_b]...")
@click.option(
    "--levels",
    type=LevelList(),
    metavar="LEVEL,...",
    help="Also time the first model cut to these levels, by magnitude: what goes decides the time, not which.",
)
@click.option("--threads", type=ThreadList(), default="1,2", metavar="N,...", help="Threads of an operator.")
@count_option("--rounds", 20, "Rounds that count; in each, everything runs once.")
@results_option("--out", default=Path("medcore-results/latency"), says="Folder of the results.")
@more("--warmup", type=Whole(), default=2, metavar="N", help="Rounds before those that count.")
@image_size_option
@overwrite_option
def command(**given: Any) -> None:
    """Time models under PyTorch and ONNX Runtime, float and int8, unpruned and pruned side by side.

    On this processor, one image, one box. The first model is the unpruned one that ratios are to
    (pocket by default); vit_b, vit_l and vit_h have random weights, which take
    as long as others. All take turns, round after round in one run, so that
    another load on the machine hits all alike; the medians count. Times have
    the encoder, by each runtime, apart from the mask decoder, by PyTorch.

    Needs the extra onnx: pip install "medcore-prune[onnx]"

    \b
    Example:
      medcore-bench latency pocket --levels h50_m70 --rounds 5
    """
    from ..speed.latency import run

    run(**given)
