"""What a layer has to be for its rows and columns to be all that a head or a neuron is."""

from torch import nn

from .._support.errors import SurgeryError

_MERGE = "merge an adapter into its weight first (peft: merge_and_unload), so that a plain nn.Linear is left"


def require_plain(name: str, layer: object) -> None:
    """Refuse a layer that is more than the weight and the bias that pruning reads and cuts.

    Args:
        name: Of the layer, for the message.
        layer: What stands where a linear layer is expected.

    Raises:
        SurgeryError: It is no `nn.Linear`, its weight is computed from others, or it has parts beside both, such as
            those of a low-rank adapter.
    """
    if not isinstance(layer, nn.Linear):
        raise SurgeryError(f"{name} is {type(layer).__name__}, no nn.Linear: {_MERGE}")
    # the older weight norm leaves a plain attribute, the newer parametrizations a property
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise SurgeryError(
            f"the weight of {name} is computed from others (weight norm, or another parametrization): take that off "
            "first"
        )
    parts = {**layer._parameters, **layer._buffers, **layer._modules}
    if beside := [part for part, value in parts.items() if part not in ("weight", "bias") and value is not None]:
        raise SurgeryError(f"{name} has {', '.join(beside)} beside weight and bias: {_MERGE}")
