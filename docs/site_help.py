"""The command lines' own help, as click tells it, in the shape that the site wants."""

import re

import click
from sphinx.application import Sphinx

_KEPT = re.compile(r"^\| (.*)$")
_FLAG = re.compile(r"(?<![`\w-])(--[a-z][\w-]*)")
_PYTHON = re.compile(r"PosixPath\('([^']*)'\)|'([^']*)'")


def tidy_options(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Write defaults as one would type them, not as Python holds them."""
    for position, line in enumerate(lines):
        if ":default:" in line:
            lines[position] = _PYTHON.sub(lambda found: found[1] or found[2], line)
        elif not line.startswith(".. option::"):
            lines[position] = _as_code(line)


def tidy_description(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Make an example, whose lines click keeps apart, a block of code."""
    found: list[str] = []
    inside = False
    for line in lines:
        kept = _KEPT.match(line)
        if kept is None:
            found.append(_as_code(line))
        elif inside:
            found.append("   " + kept[1])
        else:
            found += [kept[1], "", ".. code-block:: bash", ""]
        inside = kept is not None
    lines[:] = found


def _as_code(line: str) -> str:
    """Keep the two dashes of an option, which would become one."""
    return _FLAG.sub(r"``\1``", line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("sphinx-click-process-options", tidy_options)
    app.connect("sphinx-click-process-description", tidy_description)
    return {"parallel_read_safe": True}
