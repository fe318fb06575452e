"""Write the generated tables into README.md: `python -m medcore_prune.benchmarks.readme`."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ..cli import COMMANDS as TOOL
from ..errors import MedcorePruneError
from ..files import write_text_atomic
from .cli import COMMANDS as BENCH
from .findings import CLAIMS
from .grid import Grid
from .listing import criteria, methods


def marks(name: str) -> tuple[str, str]:
    """The two comments between which a block of tables stands."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def commands() -> Grid:
    """Every command with the first sentence of its help."""
    rows = []
    for program, listed in (("medcore-prune", TOOL), ("medcore-bench", BENCH)):
        rows += [[f"`{program} {name}`", known.says] for name, known in listed.items()]
    return Grid("Commands", ["command", "does"], rows, left=2)


def claims(results: Path) -> Grid:
    """The verdict on every claim of the paper in each stored folder of results.

    Args:
        results: The JSON file that `medcore-bench claims` wrote.
    """
    found = json.loads(results.read_text(encoding="utf-8"))
    rows = [
        [
            claim.title,
            *(str((of_claims[claim.title] or {"verdict": "not run"})["verdict"]) for of_claims in found.values()),
        ]
        for claim in CLAIMS
    ]
    return Grid("The paper's claims, measured here", ["claim", *found], rows, left=1 + len(found))


def blocks(results: Path) -> Mapping[str, Callable[[], str]]:
    """Name of a block to what makes its text."""
    return {
        "commands": lambda: commands().markdown(),
        "claims": lambda: claims(results).markdown(),
        "methods": lambda: f"{methods().markdown().strip()}\n\n{criteria().markdown()}",
    }


def with_tables(text: str, results: Path) -> str:
    """Return a README's text with the tables between its markers made anew.

    Args:
        text: Of the README.
        results: The JSON file that `medcore-bench claims` wrote.

    Raises:
        MedcorePruneError: The markers are not there.
    """
    for name, make in blocks(results).items():
        opening, closing = marks(name)
        head, start, rest = text.partition(opening)
        _, end, tail = rest.partition(closing)
        if not (start and end):
            raise MedcorePruneError(
                f"expected the markers {opening} and {closing}: put them where the tables should stand"
            )
        text = f"{head}{opening}\n\n{make().strip()}\n\n{closing}{tail}"
    return text


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    stored = place.parent / "docs" / "results" / "claims" / "claims.json"
    write_text_atomic(place, with_tables(place.read_text(encoding="utf-8"), stored))
