"""Models that come with this package, or inside another one: `pocket`, `lite_medsam`.

The pocket pair: two small SAMs trained on phantom images, so that everything runs without a download.

`reference` was last trained on phantom objects, `adapted` was fine-tuned from it on phantom polyps, ultrasound and
skin: the lineage of SAM and MedSAM at a fortieth of the size. How both were trained is in `zoo.train`. Phantom images,
pocket model: not a clinical result.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from .._support.errors import CheckpointError, require_known
from ..checkpoints.sam import load_sam
from .weights import lite_medsam

Role = Literal["adapted", "reference"]
ROLES: tuple[Role, ...] = ("reference", "adapted")
NOTICE = "phantom images, pocket model: not a clinical result"


def pocket(role: Role, device: str | torch.device = "cpu", image_size: int | None = None) -> nn.Module:
    """Load one of the two pocket models that ship with the package.

    Args:
        role: `"adapted"` (the MedSAM of the pair) or `"reference"` (its SAM).
        device: Where the model lives.
        image_size: Another input side in pixels than the 96 that it was trained at; positions are resized.

    Returns:
        A segment-anything `Sam` with 12 blocks of 12 heads, float32, in evaluation mode.

    Raises:
        CheckpointError: Unknown role, or the package was built without its weights.
    """
    require_known("pocket model", role, ROLES, CheckpointError)
    resource = files(__package__) / f"pocket_{role}.safetensors"
    if not resource.is_file():
        raise CheckpointError(
            f"{resource.name} is not in this installation: make it with `python -m medcore_prune.zoo.train`"
        )
    with as_file(resource) as path:
        return load_sam("pocket", path, device=device, image_size=image_size)


LITE_MEDSAM = "lite_medsam"
WORDS = ("pocket", LITE_MEDSAM)
"""What stands for a model where a file may: the pocket pair by role, and LiteMedSAM, which has one."""


def is_word(place: object) -> bool:
    """Whether a word stands for a model of the zoo, and is not a file's name."""
    return str(place) in WORDS and not Path(str(place)).exists()


def named(
    word: str, role: Role = "adapted", device: str | torch.device = "cpu", image_size: int | None = None
) -> nn.Module:
    """Load what a word of `WORDS` stands for."""
    if word == LITE_MEDSAM:
        return lite_medsam(device, image_size)
    return pocket(role, device, image_size)
