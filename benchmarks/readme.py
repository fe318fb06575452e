"""Write the table of methods and criteria into README.md: `python -m medcore_prune.benchmarks.readme`."""

import sys
from pathlib import Path

from ..errors import MedcorePruneError
from ..files import write_text_atomic
from .listing import criteria, methods

START, END = "<!-- methods:start -->", "<!-- methods:end -->"


def with_tables(text: str) -> str:
    """Return a README's text with the tables between its markers made anew.

    Raises:
        MedcorePruneError: The markers are not there.
    """
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not (start and end):
        raise MedcorePruneError(f"expected the markers {START} and {END}: put them where the tables should stand")
    return f"{head}{START}\n\n{methods().markdown().strip()}\n\n{criteria().markdown().strip()}\n\n{END}{tail}"


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    write_text_atomic(place, with_tables(place.read_text(encoding="utf-8")))
