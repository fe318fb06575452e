"""What torch-pruning's own importances read beside weights, looked for before one scores: absent, it is said."""

from collections.abc import Callable, Mapping
from typing import Any

import torch_pruning as tp

from ._support.errors import CriterionError
from .models.groups import StructuredGroup

Reads = Callable[[Any, StructuredGroup], bool]


def _gradients(_: Any, group: StructuredGroup) -> bool:
    return all(layer.weight.grad is not None for _, layer in group.layers)


def _activations(_: Any, group: StructuredGroup) -> bool:
    return hasattr(group.layer_out, "_importance")


def _never(_: Any, __: StructuredGroup) -> bool:
    return False


_INPUTS: Mapping[type[tp.importance.Importance], tuple[Reads, str]] = {
    tp.importance.GroupTaylorImportance: (
        _gradients,
        "it reads gradients, and {layer} has none: call loss.backward() first, with gradients for the whole encoder, "
        "or use the criterion 'taylor'",
    ),
    tp.importance.GroupHessianImportance: (
        _gradients,
        "it reads squared gradients, and {layer} has none: call loss.backward() and then its accumulate_grad(model), "
        "and leave the gradients there",
    ),
    tp.importance.ActivationImportance: (
        _activations,
        "it reads activations, and {layer} has none: run the model on images within its compute_importance(model) "
        "first",
    ),
    tp.importance.OBDCImportance: (
        _never,
        "its Fisher is for layers that read one vector an image, and these read tokens: use a criterion that reads "
        "calibration, such as 'zero'",
    ),
    tp.importance.BNScaleImportance: (
        _never,
        "it reads the scales of batch normalisation, and transformer blocks have none: use "
        "GroupMagnitudeImportance or the criterion 'magnitude'",
    ),
}


def check_inputs(importance: object, group: StructuredGroup) -> None:
    """Refuse one of torch-pruning's importances that has not been given what it reads; anything else passes.

    Raises:
        CriterionError: Gradients or activations are absent, or it is none for transformers.
    """
    for kind, (has, says) in _INPUTS.items():
        if isinstance(importance, kind) and not has(importance, group):
            bare = (name for name, layer in group.layers if layer.weight.grad is None)
            layer = group.name_out if kind is tp.importance.ActivationImportance else next(bare, group.name_out)
            raise CriterionError(f"{type(importance).__name__} cannot score: {says.format(layer=layer)}")
