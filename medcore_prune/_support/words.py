"""Many names in one message."""

from collections.abc import Mapping, Sequence

FEW = 3


def few_of(names: Sequence[str], most: int = FEW) -> str:
    """Join the first of some names, and say how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def lines_of(said: Mapping[str, str]) -> str:
    """Lay out a short list under a message, a line a name and what is said of it."""
    return "".join(f"\n  {name}: {text}" for name, text in said.items())
