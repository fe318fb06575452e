"""Models that do not compute what their weights say, while a block of `masked` or of `traceable` lasts."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from .._support.errors import SurgeryError


class ForwardForTraces(partial[Any]):
    """A `forward` that `traceable` puts in the place of a part's own."""


def refuse_traceable(model: nn.Module) -> None:
    """Refuse a model within a `traceable` block, whose windows and positions are put aside."""
    replaced = (part.__dict__.get("forward") for part in model.modules())
    if any(isinstance(forward, ForwardForTraces) for forward in replaced):
        raise SurgeryError(
            "within a `traceable` block a model is not what its weights say: bind criteria before the block, calibrate "
            "and prune outside of it"
        )


class ZeroChannels:
    """A forward pre-hook that zeroes input channels."""

    def __init__(self, keep: Tensor) -> None:
        self._keep = keep

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] * self._keep, *args[1:])


def refuse_masked(model: nn.Module) -> None:
    """Refuse a model within a `masked` or `traceable` block for all that is kept or copied by its weights."""
    refuse_traceable(model)
    hooks = (hook for part in model.modules() for hook in part._forward_pre_hooks.values())
    if any(isinstance(hook, ZeroChannels) for hook in hooks):
        raise SurgeryError("a masked model is not what its weights say: leave the `masked` block first, or prune it")
