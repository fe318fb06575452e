"""Hashes that tell one set of weights from another."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .encoders import blocks_of, geometry_of
from .surgery import refuse_masked


def _digest(named: Iterable[tuple[str, Tensor]], extra: str = "") -> str:
    state = hashlib.sha256(extra.encode())
    for name, value in named:
        state.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def model_hash(model: nn.Module) -> str:
    """SHA-256 (hex) of a model's sizes, parameters and buffers.

    Raises:
        SurgeryError: The model is within a `masked` block, so that these do not say what it computes.
    """
    refuse_masked(model)
    blocks = [(block.num_heads, block.head_dim, block.window) for block in blocks_of(model)]
    return _digest(sorted(model.state_dict().items()), f"{geometry_of(model)} {blocks}\n")
