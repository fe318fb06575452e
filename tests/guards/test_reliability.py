"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_promise_has_its_test() -> None:
    lines = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in lines if line != "| Promise | Test |"]
    assert len(promises) >= 25
    for line in promises:
        named = re.search(r"`(tests/[\w/]+\.py)::(test_\w+)` \|$", line)
        assert named, f"no test: {line}"
        file, name = named.groups()
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"there is no {name} in {file}"
