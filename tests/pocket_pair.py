"""An untrained adapted model and its reference as checkpoints, for commands that run end to end."""

from pathlib import Path

import torch

from medcore_prune.checkpoints.sam import save_training_checkpoint
from medcore_prune.models.segment_anything import build_sam

SIZE = 48


def write_pair(place: Path) -> list[str]:
    """Write both checkpoints and return the options that name them."""
    model = build_sam("pocket", image_size=SIZE, seed=1)
    save_training_checkpoint(place / "reference.pth", model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    save_training_checkpoint(place / "adapted.pth", model)
    return ["--adapted", f"{place}/adapted.pth", "--reference", f"{place}/reference.pth"]
