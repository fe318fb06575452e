"""Half precision is for storing: what runs a model says so in one line, instead of torch's words about types."""

import torch
from torch import nn

from .errors import MedcorePruneError

_HALF = (torch.float16, torch.bfloat16)


def refuse_half(model: nn.Module, what: str = "model") -> None:
    """Refuse to run a model whose weights are of half precision; cutting and saving one needs no run.

    Args:
        model: The model.
        what: What it is called in the message.

    Raises:
        MedcorePruneError: Its first weights are float16 or bfloat16.
    """
    first = next(model.parameters(), None)
    if first is not None and first.dtype in _HALF:
        raise MedcorePruneError(
            f"the {what} has weights of {first.dtype}, which SAM's own layers do not compute in: call .float() on it "
            "first and save it in half precision afterwards"
        )
