"""What `medcore-prune export --format transformers` does: write the folder, and say what is in it."""

from pathlib import Path

import click

from ...._support.errors import CheckpointError
from ...._support.files import require_writable
from ...._support.journal import Journal
from ....checkpoints.transformers_folder import CONFIG, WEIGHTS, NotUniformError, save_transformers
from ....models.families import blocks_of
from ..inputs import read_model
from .existing import Results


def run(model: str | None, out: Path, overwrite: bool) -> None:
    """Check what is there, and write both files together."""
    if model is None:
        raise CheckpointError("expected the model to export: export FILE --format transformers")
    require_writable(out)
    results = Results(Journal(out / ".export.run", overwrite), [out / CONFIG, out / WEIGHTS], overwrite, overwrite)
    loaded = read_model(model)
    if results.done(command="export transformers", read=[model]):
        return
    with results.writing():
        try:
            save_transformers(loaded, out)
        except NotUniformError as error:
            raise CheckpointError(f"{error}: prune --uniform --level h0_m70 cuts so") from error
    neurons = blocks_of(loaded)[0].neurons
    blocks = len(blocks_of(loaded))
    click.echo(f"{blocks} blocks of {neurons} neurons; images are prepared as MedSAM's, not by SamProcessor")
    click.echo(f"written: {CONFIG} and {WEIGHTS} in {out}; read them by transformers.SamModel.from_pretrained")
