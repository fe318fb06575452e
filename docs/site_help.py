"""The command lines' own help, as click tells it, in the shape that the site wants."""

import re

import click
from sphinx.application import Sphinx

_EXAMPLE = re.compile(r"^\| (.*)$")


def tidy_options(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Write defaults as one would type them, not as Python holds them."""
    for position, line in enumerate(lines):
        if ":default:" in line:
            plain = re.sub(r"PosixPath\('([^']*)'\)|'([^']*)'", lambda found: found[1] or found[2], line)
            lines[position] = plain.replace("<Sentinel.UNSET: UNSET>", "")


def tidy_description(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Make an example, which click keeps line by line, a block of code."""
    found: list[str] = []
    inside = False
    for line in lines:
        kept = _EXAMPLE.match(line)
        if kept is None:
            found.append(line)
            inside = False
        elif not inside:
            found += [kept[1], "", ".. code-block:: bash", ""]
            inside = True
        else:
            found.append("   " + kept[1])
    lines[:] = found


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("sphinx-click-process-options", tidy_options)
    app.connect("sphinx-click-process-description", tidy_description)
    return {"parallel_read_safe": True}
