"""What `medcore-prune card` does: bring a file's header and its evaluation together as a model card."""

from pathlib import Path

import click

from ..._support.errors import MetricError
from ..._support.files import refuse_overwriting, require_writable, write_text_atomic
from ..._support.journal import Journal
from ...checkpoints.card import model_card
from ...checkpoints.pruned import read_header
from ...evaluation.figures import Figures, read_figures
from .inputs import require_suffix
from .outputs.existing import Results


def run(model: Path, evaluation: Path | None, licence: str | None, overwrite: bool, out: Path | None) -> None:
    """Check what is there, and write the card."""
    place = out or card_file(model)
    require_suffix(place, ".md")
    require_writable(place)
    refuse_overwriting([model], place)
    results = Results(Journal.beside(place, overwrite), [place], overwrite, overwrite)
    figures = _figures(evaluation, model) if evaluation else None
    measured = figures.values() if figures else None
    if results.done(command="card", read=[model], figures=measured, licence=licence):
        return
    with results.writing():
        write_text_atomic(place, model_card(model, figures, license=licence))
    if figures is None:
        click.echo("masks are not measured: give --evaluation DIR, what evaluate --out DIR wrote", err=True)
    click.echo(f"written: {place}")


def _figures(evaluation: Path, model: Path) -> Figures:
    try:
        return read_figures(evaluation, read_header(model).model_hash)
    except MetricError as error:
        raise MetricError(f"--evaluation {error}; evaluate {model} --out DIR writes its figures") from error


def card_file(model: Path) -> Path:
    """Where the card of a file lies: `small.card.md` beside `small.safetensors`."""
    return model.with_suffix(".card.md")
