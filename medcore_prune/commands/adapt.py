"""`medcore-prune adapt`: fine-tune a checkpoint on one's own images, as MedSAM was fine-tuned from SAM."""

from typing import Any

import click

from ..training.settings import AUGMENTATION_NAMES, AdaptSettings
from .group import Shared, loading
from .options import (
    FILE,
    TRAINED,
    Whole,
    accumulate_option,
    average_option,
    batch_size_option,
    data_option,
    device_option,
    image_size_option,
    learning_rate_option,
    model_argument,
    more,
    overwrite_option,
    precision_option,
    processes_options,
    resume_option,
    seed_option,
    steps_option,
    tensorboard_option,
    verbose_option,
)
from .values import Shares


@click.command(name="adapt", cls=Shared)
@model_argument()
@data_option(required=True)
@steps_option(AdaptSettings.steps)
@device_option
@precision_option(default=TRAINED)
@click.option("--out", type=FILE, required=True, help="The adapted checkpoint, a .pth file.")
@image_size_option
@more(
    "--fractions",
    type=Shares(),
    default="0.7,0.1,0.2",
    metavar=Shares.name,
    help="Shares of the images for training, validation and test.",
)
@more("--split-seed", type=Whole(), default=0, help="Seed of that split.")
@batch_size_option(AdaptSettings.batch_size)
@accumulate_option
@learning_rate_option(AdaptSettings.learning_rate)
@seed_option("Seed of the order of images and of their augmentation.")
@more(
    "--augmentation",
    type=click.Choice(AUGMENTATION_NAMES),
    default=AdaptSettings.augmentation,
    help="Training images are flipped, turned, zoomed, shifted and coloured, or flipped alone.",
)
@average_option
@processes_options
@tensorboard_option
@resume_option
@overwrite_option
@verbose_option
def command(**given: Any) -> None:
    """Fine-tune a checkpoint on your images, as MedSAM was fine-tuned from SAM.

    Starts from a SAM or MedSAM checkpoint, such as sam_vit_b_01ec64.pth, or
    from the small built-in model. Trains on the training images only and keeps
    the weights that are best on the validation images, those from before it
    among them. Which image is which is written beside the checkpoint, where
    every other command with the same --data finds it.

    \b
    Example:
      medcore-prune phantoms --out phantoms
      medcore-prune adapt pocket --data own=phantoms --steps 8 --out adapted.pth

    \b
    With SAM ViT-B and your own images:
      medcore-prune adapt sam_vit_b_01ec64.pth --data kvasir=Kvasir-SEG \\
          --out medsam_kvasir.pth --device cuda
    """
    with loading():
        from .work.adapt import run

    run(**given)
