"""The page of an experiment: sections of text, tables and pictures give HTML, Markdown, SVG and CSV files."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ..._support.files import write_text_atomic
from ...data.csv_table import csv_text
from ..runner.store import ResultStore
from .plots.style import THEMES, Theme, svg, themed
from .tables import BELOW_FLOOR, Grid

_TEMPLATES = files(__package__) / "templates"
Draw = Callable[[Theme], Figure | None]


@dataclass(frozen=True)
class Picture:
    """A figure of a section, and what it shows; `draw` gives None where there is nothing to draw."""

    caption: str
    draw: Draw


@dataclass(frozen=True)
class Section:
    """A part of a page under one heading: paragraphs, tables, and figures by file name.

    `folded` tables are shown only when asked for; `tabs` name each table where the page shows one of them at a time;
    `html` is what the page alone shows besides, after the text.
    """

    title: str
    text: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    figures: Mapping[str, Picture] = field(default_factory=dict)
    folded: bool = False
    tabs: Sequence[str] = ()
    html: str = ""

    @property
    def anchor(self) -> str:
        """The heading as the name of a place in the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Page:
    """All that is shown of some results: paragraphs below the heading, then the sections in order.

    `printed` tables go to the terminal too, `frames` are CSV files by name, `facts` figures of the run with what they
    count, beside those that its record holds. The rows of `subject` stand out; `swatches` is method to the CSS of the
    square before its name.
    """

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    printed: Sequence[Grid] = ()
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    subject: str = ""
    swatches: Mapping[str, str] = field(default_factory=dict)


def write_results(store: ResultStore, page: Page) -> Path:
    """Write the page of stored results into their folder; see `write_page`."""
    cells = store.cells()
    return write_page(store.root, page, store.run, dict(cells[0].versions) if cells else {})


def write_page(root: Path, page: Page, run: Mapping[str, Any], versions: Mapping[str, str]) -> Path:
    """Write `report.html`, `report.md`, the CSV files and `figures/`, and print what is to be printed.

    `run` is the record of what ran: its `notice` stands on everything, its `identity` makes the facts, the rest is
    listed last.
    """
    notice = str(run.get("notice", ""))
    page = replace(page, lead=[*page.lead, *_missing(run)])
    for name, frame in page.frames.items():
        write_text_atomic(root / f"{name}.csv", csv_text(frame))
    pictures = {
        name: drawn
        for section in page.sections
        for name, picture in section.figures.items()
        if (drawn := _drawn(picture.draw, notice))
    }
    for name, themes in pictures.items():
        write_text_atomic(root / "figures" / f"{name}.svg", themes["light"])
    write_text_atomic(root / "report.md", _markdown(page, notice, pictures))
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            figures=pictures,
            notice=notice,
            run=run,
            facts=[*_facts(run), *page.facts],
            about=json.dumps(run, indent=2, sort_keys=True),
            versions=versions,
        )
    )
    path = root / "report.html"
    write_text_atomic(path, text)
    for grid in page.printed:
        grid.show()
    tables = [path.with_suffix(".md"), *(root / f"{name}.csv" for name in list(page.frames)[:1])]
    click.echo(f"report: {path}  (tables: {', '.join(map(str, tables))})")
    return path


def left_out(methods: Sequence[str]) -> str:
    """Say which methods did not take part, for there is no reference."""
    return (
        f"{len(methods)} method{'s' * (len(methods) > 1)} left out, for there is no checkpoint before adaptation to "
        f"compare with: {', '.join(methods)}"
    )


def _missing(run: Mapping[str, Any]) -> list[str]:
    """What a run did without: methods without a reference, files that were left out."""
    methods = run.get("left_out", [])
    noticed = [f"{name}: {note}." for name, notes in run.get("noticed", {}).items() for note in notes]
    return [*([f"{left_out(methods)}."] if methods else []), *noticed]


def _drawn(draw: Draw, notice: str) -> dict[str, str]:
    """Theme to SVG text, with the notice below the figure; empty where there is nothing to draw."""
    found = {}
    for name, theme in THEMES.items():
        with themed(theme):
            figure = draw(theme)
            if figure is None:
                return {}
            figure.text(0.005, -0.012, notice, color=theme.faint, fontsize=7.5, va="top")
            found[name] = svg(figure)
    return found


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the head of the page says of a run: figure and what it counts."""
    identity = run.get("identity")
    if not identity:
        return []
    against = f", against {run['reference']}" if run.get("reference") else ""
    data = run.get("data", {})
    sets = ", ".join(f"{name}: {count['images']} in {count['groups']} groups" for name, count in data.items())
    return [
        (f"{identity['model']}, {identity['image_size']} px", f"{run.get('adapted', '')}{against}"),
        (f"{sum(count['images'] for count in data.values())} {identity['role']} images", sets),
        (f"{identity['calibration_samples']} calibration images", "of each data set"),
    ]


def _markdown(page: Page, notice: str, pictures: Mapping[str, object]) -> str:
    parts = [f"# {page.title}\n", *([f"**{notice}**\n"] if notice else []), *(f"{text}\n" for text in page.lead)]
    for section in page.sections:
        shown = {name: picture.caption for name, picture in section.figures.items() if name in pictures}
        if section.html and not (section.grids or shown):
            continue  # nothing that Markdown could show
        parts += [f"## {section.title}\n", *(f"{text}\n" for text in section.text)]
        parts += [f"![{caption}](figures/{name}.svg)\n\n{caption}\n" for name, caption in shown.items()]
        parts += [grid.markdown() for grid in section.grids]
    return "\n".join(parts)


def environment() -> Environment:
    """Return what renders the templates: values escaped, the package's own style sheet at hand as `css`."""
    found = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"data_uri": _svg_uri, "cell": _cell}
    found.tests["below"] = lambda text: text.startswith(BELOW_FLOOR)
    # the package's own files
    found.globals |= {"css": Markup(_read("report.css")), "js": Markup(_read("tables.js"))}
    return found


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _svg_uri(text: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _cell(text: str) -> Markup:
    """Write the cell of a table, an interval after its value small and below it."""
    value, bracket, interval = text.partition(" [")
    if bracket and interval.endswith("]"):
        return Markup("<b>{}</b><small>[{}</small>").format(value, interval)
    return escape(text)
