"""`medcore-bench leverage`."""

import click

from .options import method_option
from .words import Words

HEADS = (0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.84)
NEURONS = (0.30, 0.50, 0.70, 0.80, 0.84, 0.90, 0.95)


class Percents(click.ParamType):
    """Rising percentages separated by commas, as shares."""

    name = "PERCENT,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(round(float(text) / 100, 6) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: expected percentages separated by commas, such as 30,50,70", param, ctx)


def _percents(shares: tuple[float, ...]) -> str:
    return ",".join(f"{100 * share:g}" for share in shares)


WORDS = Words(
    "leverage",
    """Measure how far compression steps move the contour for what they save: heads against MLP.

    A sweep over head and MLP levels, scored once; and a test of the first-order
    displacement of the contour behind it. On the built-in pair and drawn polyps
    by default.

    \b
    Example:
      medcore-bench leverage --quick --heads 30,50,70 --mlp 30,50,70
    """,
    options=(
        method_option,
        click.option(
            "--heads",
            type=Percents(),
            default=_percents(HEADS),
            help="Shares of the attention heads that go, in per cent.",
        ),
        click.option(
            "--mlp",
            type=Percents(),
            default=_percents(NEURONS),
            help="Shares of the MLP neurons that go, in per cent.",
        ),
    ),
    fixed={"gallery": False},
)
command = WORDS.command()
