"""Which implementation of attention a model runs: a switch that changes time and memory, not the result."""

from collections.abc import Mapping

from torch import nn

from ._support.errors import MedcorePruneError
from .encoders import family_of


def _kinds(model: nn.Module) -> Mapping[str, type[nn.Module]]:
    family = family_of(model)
    kinds: Mapping[str, type[nn.Module]] = getattr(family, "attentions", {})
    if not kinds:
        raise MedcorePruneError(f"models of the family {family.name} have one attention only: leave it as it is")
    return kinds


def set_attention(model: nn.Module, kind: str) -> nn.Module:
    """Choose how a model computes attention, in place; parameters, names and hooks stay as they are.

    `"segment-anything"` is the original, which forms the map of all pairs of tokens. `"sdpa"` computes the same with
    PyTorch's fused kernels and never holds the whole map: at 1024 px a fraction of the time and memory. The choice is
    no part of the weights: a file does not hold it, a copy (and a pruned copy) does.

    Args:
        model: A model of a family with several implementations, pruned or not, or its encoder.
        kind: A name among the family's, for SAM `"sdpa"` or `"segment-anything"`.

    Returns:
        The same model.

    Raises:
        MedcorePruneError: Unknown kind, or a family with one implementation only.
    """
    kinds = _kinds(model)
    if kind not in kinds:
        raise MedcorePruneError(f"unknown attention {kind!r}: expected one of {', '.join(kinds)}")
    for block in family_of(model).blocks(model):
        # the classes differ in `forward` alone, so that an object may change from one to the other
        block.attention.__class__ = kinds[kind]
    return model


def attention_of(model: nn.Module) -> str:
    """Name of the implementation that a model's blocks run.

    Raises:
        MedcorePruneError: A family with one implementation only, or blocks that differ among each other.
    """
    names = {attention: name for name, attention in _kinds(model).items()}
    found = {
        names.get(type(block.attention), type(block.attention).__name__) for block in family_of(model).blocks(model)
    }
    if len(found) != 1:
        raise MedcorePruneError(f"the blocks run {' and '.join(sorted(found))}: call set_attention for all alike")
    return found.pop()
