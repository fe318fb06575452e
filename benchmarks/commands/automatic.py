"""`medcore-bench automatic`."""

import click

from ...commands.options import ray_option
from ...commands.values import Whole
from ...correction.search.settings import GENERATIONS
from ...pruning.level import COMPARISON_LEVELS
from ...pruning.target import CHUNK
from .options import method_option
from .words import Setting, Words

SAMPLES = 8

WORDS = Words(
    "automatic",
    """Compare the automatic split of heads and MLP with the paper's levels, at equal parameters and FLOPs.

    The split is what `medcore-prune prune --target` uses: at each step, the
    family goes whose removal moves the contour less. Without recovery, on the
    built-in pair and drawn polyps by default. With --search, a searched budget
    and one that spares no block take part, and all are corrected alike.

    \b
    Example:
      medcore-bench automatic --quick --levels h50_m70
    """,
    options=(
        method_option,
        click.option(
            "--search",
            is_flag=True,
            help="Compare a searched budget too, as prune --search finds it, after the training-free correction.",
        ),
        ray_option,
    ),
    rare={
        "samples": Setting(Whole(1), f"images of each set that the search looks at ({SAMPLES})"),
        "chunk": Setting(click.FLOAT, f"share of all heads, or neurons, that goes in a step of the search ({CHUNK})"),
        "generations": Setting(Whole(1), f"of --search, 16 states each ({GENERATIONS})"),
    },
    levels=COMPARISON_LEVELS,
    fixed={"subject": "automatic", "gallery": False},
)
command = WORDS.command()
