"""The report of an experiment as sections of text, tables and figures: HTML, Markdown and SVG files from one list."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure

from .._support.files import write_text_atomic
from .grid import Grid
from .page import environment, run_versions
from .plot_style import THEMES, Theme, svg, themed
from .results import ResultStore

Draw = Callable[[Theme], Figure | None]


@dataclass(frozen=True)
class Picture:
    """A figure of a section.

    Attributes:
        caption: What it shows, a sentence or two.
        draw: Draws it under a theme; None where there is nothing to draw.
    """

    caption: str
    draw: Draw


@dataclass(frozen=True)
class Section:
    """A part of a report under one heading.

    Attributes:
        title: The heading.
        text: Paragraphs.
        grids: Tables.
        figures: File name to figure.
        folded: Whether the page shows its tables only when asked to.
    """

    title: str
    text: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    figures: Mapping[str, Picture] = field(default_factory=dict)
    folded: bool = False

    @property
    def anchor(self) -> str:
        """The heading as the name of a place in the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def drawn(draw: Draw, theme: str, notice: str) -> str | None:
    """Draw a figure as SVG text, with the run's notice below it; None where there is nothing to draw."""
    with themed(THEMES[theme]):
        figure = draw(THEMES[theme])
        if figure is None:
            return None
        figure.text(0.005, -0.012, notice, color=THEMES[theme].faint, fontsize=7.5, va="top")
        return svg(figure)


def render_experiment(
    store: ResultStore, title: str, lead: Sequence[str], sections: Sequence[Section], *, show: int = 1
) -> Path:
    """Write `report.html`, `report.md` and `figures/` into the results folder, and print the first tables.

    Args:
        store: The results, for what the run says of itself.
        title: Heading of the report.
        lead: Paragraphs below it.
        sections: The parts, in order.
        show: How many tables, from the first, are printed.

    Returns:
        The page.
    """
    return write_report(store.root, store.run, run_versions(store), title, lead, sections, show=show)


def write_report(
    root: Path,
    run: Mapping[str, Any],
    versions: Mapping[str, str],
    title: str,
    lead: Sequence[str],
    sections: Sequence[Section],
    *,
    show: int = 1,
) -> Path:
    """Write the report of something that a run record describes; see `render_experiment`.

    Args:
        root: Where to.
        run: The record: its `notice`, and whatever else the page's last section lists.
        versions: Packages to their versions.
        title, lead, sections, show: As for `render_experiment`.

    Returns:
        The page.
    """
    notice = str(run.get("notice", ""))
    pictures: dict[str, dict[str, str]] = {}
    for section in sections:
        for name, picture in section.figures.items():
            themes = {theme: text for theme in THEMES if (text := drawn(picture.draw, theme, notice)) is not None}
            if themes:
                pictures[name] = themes
    for name, themes in pictures.items():
        write_text_atomic(root / "figures" / f"{name}.svg", themes["light"])
    write_text_atomic(root / "report.md", _markdown(title, notice, lead, sections, pictures))
    page = environment().get_template("experiment.html.j2")
    path = root / "report.html"
    text = page.render(
        title=title,
        lead=lead,
        sections=sections,
        figures=pictures,
        notice=notice,
        run=run,
        about=json.dumps(run, indent=2, sort_keys=True),
        versions=versions,
    )
    write_text_atomic(path, text)
    for grid in [grid for section in sections for grid in section.grids][:show]:
        grid.show()
    click.echo(f"report: {path}  (tables: {path.with_suffix('.md')})")
    return path


def _markdown(
    title: str, notice: str, lead: Sequence[str], sections: Sequence[Section], pictures: Mapping[str, object]
) -> str:
    parts = [f"# {title}\n", *([f"**{notice}**\n"] if notice else []), *(f"{text}\n" for text in lead)]
    for section in sections:
        parts += [f"## {section.title}\n", *(f"{text}\n" for text in section.text)]
        parts += [
            f"![{picture.caption}](figures/{name}.svg)\n\n{picture.caption}\n"
            for name, picture in section.figures.items()
            if name in pictures
        ]
        parts += [grid.markdown() for grid in section.grids]
    return "\n".join(parts)
