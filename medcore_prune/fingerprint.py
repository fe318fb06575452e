"""Hashes that tell one model from another: by its weights, or by all that decides what it computes."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .encoders import blocks_of, geometry_of
from .structure import lines_of
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


def computation_hash(model: nn.Module) -> str:
    """SHA-256 (hex) of all that decides what a model computes, for what is kept to be found again.

    Besides `model_hash`: the class and the settings of every part (activation, epsilon, heads of the decoder), and
    buffers that no file holds. Which attention computes the same, and whether blocks are recomputed, does not count;
    nor do hooks, most of which look on (see `structure.hooks_of`). Versions of the library that a model comes from may
    change it, as they may change what is computed.

    Raises:
        SurgeryError: As for `model_hash`.
    """
    stored = model.state_dict().keys()
    unstored = sorted((name, value) for name, value in model.named_buffers() if name not in stored)
    return _digest(unstored, "\n".join((model_hash(model), *lines_of(model))))
