"""Many names in one message."""

from collections.abc import Sequence

FEW = 3


def few_of(names: Sequence[str], most: int = FEW) -> str:
    """Join the first of some names, and say how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
