"""Activation checkpointing: each transformer block is computed a second time in the backward pass instead of kept.

A backward pass needs what the forward pass computed. With checkpointing only what enters each block is kept, and one
block at a time is recomputed: at 1024 px a fraction of the memory, for the time of one more forward pass. Gradients,
and the sums of a calibration, are the same numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .encoders import blocks_of

_MADE: dict[type[nn.Module], type[nn.Module]] = {}


def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of blocks of `kind` that are recomputed in the backward pass; it differs in `forward` alone."""
    if kind not in _MADE:
        _MADE[kind] = _make(kind)
    return _MADE[kind]


def _make(kind: type[nn.Module]) -> type[nn.Module]:

    def forward(self: nn.Module, *args: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args)
        return checkpoint(kind.forward, self, *args, use_reentrant=False)

    return type(f"Recomputed{kind.__name__}", (kind,), {"forward": forward, "recomputes": kind})


def _modules(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(block.name) for block in blocks_of(model)]


def is_checkpointing(model: nn.Module) -> bool:
    """Whether every block of a model is recomputed in the backward pass."""
    return all(hasattr(type(module), "recomputes") for module in _modules(model))


def set_checkpointing(model: nn.Module, on: bool = True) -> nn.Module:
    """Recompute a model's blocks in the backward pass from now on, or no longer; in place.

    Parameters, names and hooks stay as they are, but forward hooks *inside* a block run once more when it is
    recomputed. A copy of the model has the choice as well, a file has not.

    Args:
        model: A model of a known family, pruned or not, or its encoder.
        on: Whether to.

    Returns:
        The same model.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    for module in _modules(model):
        plain: type[nn.Module] = getattr(type(module), "recomputes", type(module))
        module.__class__ = _recomputed(plain) if on else plain
    return model


@contextmanager
def checkpointing(*models: nn.Module, on: bool = True) -> Iterator[None]:
    """Recompute the blocks of models in every backward pass for as long as the block lasts.

    ::

        with mp.checkpointing(model, reference):
            statistics = mp.calibrate(model, reference, data)

    Args:
        models: Each as for `set_checkpointing`; afterwards each is as it was.
        on: False for a block that changes nothing, where a setting decides.

    Yields:
        Nothing.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    before = [(model, is_checkpointing(model)) for model in models]
    try:
        for model in models if on else ():
            set_checkpointing(model)
        yield
    finally:
        for model, was in before:
            set_checkpointing(model, was)
