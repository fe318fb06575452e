"""Sets of indices: checked, and written as short text such as `0-3, 7` that is readable and diffable."""

import re
from collections.abc import Sequence
from itertools import pairwise

from ._support.errors import BudgetError

MAX_UNITS = 1 << 20  # far above any encoder; a damaged or hostile file must not eat memory
_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def check_size(size: int, what: str) -> None:
    """Refuse a number of units that no block has.

    Raises:
        BudgetError: Not between 1 and `MAX_UNITS`.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MAX_UNITS:
        raise BudgetError(f"{what}: expected 1 to {MAX_UNITS} of them, got {str(size)[:20]}")


def check_indices(indices: Sequence[int], size: int, what: str) -> None:
    """Refuse indices that are not ascending integers below `size`.

    Raises:
        BudgetError: They are not; the message begins with `what`.
    """
    for index in indices:
        # bool is an int to Python, and never an index here
        if isinstance(index, bool) or not isinstance(index, int):
            raise BudgetError(f"{what}: {str(index)[:20]} is {type(index).__name__}, expected an int")
    if any(after <= before for before, after in pairwise(indices)):
        raise BudgetError(f"{what}: expected ascending indices without repeats")
    if indices and not (indices[0] >= 0 and indices[-1] < size):
        raise BudgetError(f"{what}: indices {indices[0]} to {indices[-1]} do not exist, expected 0 to {size - 1}")


def to_text(indices: Sequence[int]) -> str:
    """Write ascending indices as ranges, for example `0-3, 7`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def from_text(text: str, size: int, what: str) -> tuple[int, ...]:
    """Read what `to_text` wrote.

    Args:
        text: Ranges, ascending, without repeats.
        size: Every index must be below it; it also bounds the memory that a text can ask for.
        what: Names the set in messages.

    Returns:
        The indices, ascending.

    Raises:
        BudgetError: Not of that form, out of range, not ascending or repeated.
    """
    indices: list[int] = []
    for part in text.split(",") if text.strip() else []:
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise BudgetError(f"{what}: cannot read {part.strip()[:40]!r}, expected indices and ranges such as 0-3, 7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or (indices and first <= indices[-1]):
            raise BudgetError(f"{what}: {part.strip()!r} is out of order, expected ascending indices without repeats")
        if last >= size:
            raise BudgetError(f"{what}: index {last} does not exist, expected 0 to {size - 1}")
        indices.extend(range(first, last + 1))
    return tuple(indices)
