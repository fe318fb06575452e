"""The report of an experiment as sections of text, tables and figures: HTML, Markdown and SVG files from one list."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ..._support.files import write_text_atomic
from ..runner.store import UNPRUNED, ResultStore
from .gallery import ANALYSIS
from .plots.style import THEMES, Theme, looks, svg, themed
from .summary import HIGHER_IS_BETTER, METRICS, Row, Summary
from .tables import METRIC_NAMES, Grid, footer, label, number, percent, ranks, rows_of, span

_ROOM = 1.7  # sides of a picture's view to the longer side of the box
_TEMPLATES = files(__package__) / "templates"


def environment() -> Environment:
    """Return what renders the templates: values escaped, the package's own style sheet at hand as `css`."""
    found = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"data_uri": _svg_uri, "path": _path}
    found.globals["css"] = Markup(_read("report.css"))  # the package's own file
    return found


def page(
    store: ResultStore,
    summary: Summary,
    details: Mapping[str, Sequence[Grid]],
    figures: Mapping[str, Mapping[str, str]],
    *,
    gallery: bool,
) -> str:
    """Render the page.

    Args:
        store: The results, for what the run says of itself and for its pictures.
        summary: The main tables.
        details: Other tables by section.
        figures: Figure name to theme to SVG.
        gallery: Whether to show pictures of the images.
    """
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=store.run,
            about=json.dumps(store.run, indent=2, sort_keys=True),
            versions=run_versions(store),
            summary=summary,
            modes=summary.modes,
            metrics=METRIC_NAMES,
            sections={mode: _sections(summary, mode) for mode in summary.modes},
            footers={mode: footer(summary, mode) for mode in summary.modes},
            ranks=ranks(summary) if summary.ranks else None,
            details=details,
            figures=figures,
            gallery=_gallery(store, summary) if gallery else None,
            swatches={name: look.swatch for name, look in looks(summary.methods, summary.subject).items()},
            unpruned=UNPRUNED,
        )
    )


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _svg_uri(text: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def run_versions(store: ResultStore) -> dict[str, str]:
    """Versions that the first stored cell was made with."""
    cells = store.cells()
    return dict(cells[0].versions) if cells else {}


def _sections(summary: Summary, mode: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Levels with their rows as the table shows them."""
    levels = [("not pruned", summary.unpruned_rows)]
    levels += [(level, rows_of(summary, mode, level)) for level in summary.levels]
    return [(title, _rows(rows, summary)) for title, rows in levels if rows]


def _rows(rows: Sequence[Row], summary: Summary) -> list[dict[str, Any]]:
    best = {}
    for metric in HIGHER_IS_BETTER:
        for mode in {row.mode for row in rows}:
            values = [row.metrics[metric].value for row in rows if row.mode == mode]
            best[mode, metric] = max(values) if METRICS[metric] else min(values)
    return [
        {
            "method": row.method,
            "label": label(row),
            "is_subject": row.method == summary.subject,
            "params": percent(row.cost.get("params_removed")),
            "flops": percent(row.cost.get("flops_removed")),
            "cells": [
                {
                    "value": number(metric, row.metrics[metric].value),
                    "span": span(metric, row.metrics[metric]),
                    "below": metric in row.below_floor,
                    "best": row.level in summary.levels and row.metrics[metric].value == best[row.mode, metric],
                }
                for metric in HIGHER_IS_BETTER
            ],
        }
        for row in rows
    ]


def _gallery(store: ResultStore, summary: Summary) -> dict[str, Any] | None:
    """Pictures with everybody's contours, ready to be drawn; None where the run kept none."""
    found = store.analysis(ANALYSIS)
    if not found or not found["pictures"]:
        return None
    keys = {key for picture in found["pictures"] for key in picture["predicted"]}
    methods = [method for method in summary.methods if any(key.endswith(f"/{method}") for key in keys)]
    pictures = []
    for picture in found["pictures"]:
        # whatever the record says, nothing else than the gallery gets into the page
        image = (store.root / "gallery" / Path(picture["file"]).name).read_bytes()
        uri = "data:image/png;base64," + base64.b64encode(image).decode()
        pictures.append({**picture, "uri": uri, "view": _view(picture["box"], picture["size"])})
    return {"pictures": pictures, "methods": methods, "levels": summary.levels}


def _view(box: Sequence[float], size: Sequence[int]) -> str:
    """View box of a square around the object, so that its contour can be judged."""
    width, height = size
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = min(_ROOM * max(x1 - x0, y1 - y0), width, height)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    return f"{left:.1f} {top:.1f} {side:.1f} {side:.1f}"


def _path(lines: Sequence[Sequence[Sequence[float]]], size: Sequence[int]) -> str:
    """Write contours, given as shares of width and height, as the path of an SVG of that size."""
    width, height = size
    return " ".join(
        "M" + " ".join(f"{x * width:.1f},{y * height:.1f}" for x, y in line) + "Z" for line in lines if line
    )


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
