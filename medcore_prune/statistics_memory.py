"""Statistics of tensors at hand, as parts that look like collected ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .collector_registry import layout_of
from .needs import Need
from .statistics_file import Header, MemoryPart


def flat(layers: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Layer name to (weight, bias), as `<layer>.weight` and `<layer>.bias` to one tensor each."""
    return {
        f"{layer_name}.{kind}": value
        for layer_name, pair in layers.items()
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }


def memory_part(need: Need, dataset: str, means: Mapping[str, Tensor], count: int) -> MemoryPart:
    """Make a part whose means are given, the same for every lambda_B.

    Args:
        need: What the tensors are.
        dataset: Data set; empty for the reference's weights.
        means: The collector's name of each tensor to its mean over the samples.
        count: Samples that the means are said to stand for; they are called `<dataset>/0` and so on.
    """
    copied = not need.summed
    samples = () if copied else tuple((f"{dataset}/{index}", "") for index in range(count))
    layout = layout_of(need.kind)
    assert layout is not None
    scale = 1 if copied else count
    tensors = {
        f"{each}/{name}": torch.zeros_like(value) if power else value.detach() * scale
        for name, value in means.items()
        for each, power in layout.powers.items()
    }
    return MemoryPart(Header(need.kind, need.role, dataset, samples), tensors)
