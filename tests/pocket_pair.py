"""An untrained adapted model and its reference as checkpoints, for commands that run end to end."""

from pathlib import Path

import numpy as np
import torch
from skimage.io import imsave

import medcore_prune as mp
from medcore_prune.checkpoints.sam import save_training_checkpoint
from medcore_prune.models.segment_anything import build_sam

SIZE = 48
# a command that trains, without the estimate, whose trial takes longer than all else; other processes take part in it
TRAINING = """
from medcore_prune._support.machines.ranks import ranks
from medcore_prune.commands.cli import main
from medcore_prune.commands.work import adapt, recover

adapt.fit = recover.fit = lambda estimate, most, models, trained: (ranks().gathered(None), most)[1]
main()
"""


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


def write_images(place: Path, seed: int = 0) -> None:
    """Write a folder of eight images with their masks."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (place / kind).mkdir(parents=True)
    for index in range(8):
        mask = np.zeros((40, 56), np.uint8)
        mask[8 + index : 30, 10:40] = 255
        image = rng.integers(0, 120, (40, 56, 3), dtype=np.uint8) + mask[..., None] // 2
        imsave(place / "images" / f"{index}.png", image)
        imsave(place / "masks" / f"{index}.png", mask, check_contrast=False)


def write_training(place: Path) -> None:
    """Write the pair, `small.safetensors` that was cut from the adapted one, and `own`, a folder of eight images."""
    write_images(place / "own")
    write_pair(place)
    model = mp.load_sam("pocket", place / "adapted.pth", image_size=SIZE)
    mp.save(mp.prune(model, mp.plan(model, "h50_m50", "magnitude", protect=1)), place / "small.safetensors")
