"""Parts of statistics in order: where they can be cut, what they are called, what to do where one is missing."""

from collections.abc import Sequence

from ._support.errors import StatisticsError
from .needs import Need
from .statistics_file import Part


def file_name(text: str) -> str:
    """Replace what does not belong in a file name."""
    return "".join(c if c.isalnum() or c in "._" else "_" for c in text)


def sample_ends(parts: Sequence[Part]) -> list[int]:
    """Number of samples up to the end of each part."""
    ends, total = [], 0
    for part in parts:
        total += part.header.count
        ends.append(total)
    return ends


def first_samples(key: tuple[str, str, str], parts: Sequence[Part], n: int) -> Sequence[Part]:
    """Return the parts that hold the first `n` samples; all of them where there are no more, and of weights.

    Raises:
        StatisticsError: `n` falls inside a part.
    """
    ends = sample_ends(parts)
    if key[0] == "weights" or n >= ends[-1] > 0:
        return parts
    if n not in ends:
        known = ", ".join(map(str, ends))
        raise StatisticsError(
            f"cannot take {n} samples of {key[2]}: stored boundaries are {known}; calibrate with shards"
        )
    return parts[: ends.index(n) + 1]


def how_to_collect(needs: Sequence[Need]) -> str:
    """Say what is missing and how to collect it."""
    names = ", ".join(map(repr, needs))
    reference = ", with a reference model" if any(need.needs_reference for need in needs) else ""
    return (
        f"the statistics hold no {', '.join(map(str, needs))}: calibrate(..., needs={{{names}}}){reference} collects it"
    )
