"""`medcore-prune recover`: fine-tune a pruned model towards the model that it was cut from."""

from pathlib import Path
from typing import Any

import click

from ..training.settings import RecoverySettings
from .group import Shared, loading
from .options import (
    FILE,
    MODEL,
    MODEL_FILE,
    TRAINED,
    Whole,
    accumulate_option,
    average_option,
    batch_size_option,
    data_option,
    device_option,
    learning_rate_option,
    model_argument,
    more,
    overwrite_option,
    precision_option,
    processes_options,
    resume_option,
    seed_option,
    split_seed_option,
    steps_option,
    tensorboard_option,
    verbose_option,
)


@click.command(name="recover", cls=Shared)
@model_argument("pruned.safetensors", "FILE")
@click.option(
    "--teacher",
    type=MODEL,
    metavar=MODEL_FILE,
    help="The model that it was cut from, which it learns from.  [default: the built-in one, if it was cut from that]",
)
@data_option()
@steps_option(RecoverySettings.steps)
@device_option
@precision_option(default=TRAINED)
@click.option("--out", type=FILE, default=Path("recovered.safetensors"), help="The recovered model, .safetensors.")
@batch_size_option(RecoverySettings.batch_size)
@accumulate_option
@learning_rate_option(None, "  [default: 0.001 for the built-in model, 0.0001 for others]")
@more(
    "--validate-every",
    type=Whole(),
    default=RecoverySettings.validate_every,
    metavar="N",
    help="Steps between looks at the validation images, which choose the weights; 0 keeps the last.",
)
@more(
    "--patience",
    type=Whole(),
    default=RecoverySettings.patience,
    metavar="N",
    help="Stop once so many looks in a row show a decline beyond the noise; 0 for never.",
)
@average_option
@seed_option("Seed of the order of images and of their augmentation.")
@split_seed_option
@processes_options
@tensorboard_option
@resume_option
@overwrite_option
@verbose_option
def command(**given: Any) -> None:
    """Fine-tune a pruned model on your images, towards the model that it was cut from.

    It learns that model's masks and features. Takes pruned.safetensors if none
    is named. Steps read the training images of the split beside the pruned
    file; the weights that are kept are those with the best Boundary F1 on its
    validation images. Where no step gains anything, it says so and the model
    stays as it is. A stopped run goes on where it was. The loss and validation
    curves are written beside the result, as CSV and as a picture.

    \b
    Example:
      medcore-prune recover small.safetensors --steps 4 \\
          --out recovered.safetensors
    """
    with loading():
        from .work.recover import run

    run(**given)
