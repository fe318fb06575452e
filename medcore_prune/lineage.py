"""What a model remembers of where it comes from: the plan that cut it, in original indices, and its provenance.

Kept as one plain attribute of the module, outside of its parameters: copies keep it, weights files do not, and what
computes never reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from .models.families import blocks_of
from .plan_record import Plan

_ATTRIBUTE = "_medcore_lineage"


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from.

    Attributes:
        plan: What was cut since the model was whole, in the indices of the whole model; None where nothing was, or
            where something else than `prune` and `traceable` saw the cutting.
        provenance: JSON values, as `save` writes them.
    """

    plan: Plan | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def lineage_of(model: nn.Module) -> Lineage:
    """Return what a model remembers; a plan that no longer fits its sizes is forgotten."""
    found = getattr(model, _ATTRIBUTE, None)
    if not isinstance(found, Lineage):
        return Lineage()
    if found.plan is not None and _left_by(found.plan) != _sizes(model):
        return replace(found, plan=None)
    return found


def remember(model: nn.Module, lineage: Lineage) -> None:
    """Make a model remember; copies of it will too."""
    setattr(model, _ATTRIBUTE, lineage)


def remember_cut(model: nn.Module, before: Lineage, plan: Plan) -> None:
    """Add a cut to what a model remembered before it, so that indices stay those of the whole model.

    Args:
        model: The model after the cut.
        before: What `lineage_of` said before it.
        plan: The cut, in the indices of the model before it.
    """
    remember(model, replace(before, plan=plan if before.plan is None else before.plan.then(plan)))


def _left_by(plan: Plan) -> list[tuple[int, int]]:
    return [(len(block.keep_heads), len(block.keep_neurons)) for block in plan.blocks]


def _sizes(model: nn.Module) -> list[tuple[int, int]]:
    return [(block.num_heads, block.neurons) for block in blocks_of(model)]
