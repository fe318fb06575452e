"""Bytes of activations that one image takes, from a model's sizes alone: nothing is run.

Counted are the tensors that autograd keeps for a backward pass. For a block with N tokens of width D (N' with the
padding of its windows), heads of width d that make A = heads d, M neurons, and maps of `ctx` keys a query:

    2 N D          inputs of the two norms
    N' D + N D     inputs of qkv and of lin1
    4 N' A + N' A  q, scaled q, k, v, and the input of proj
    2 N M          inputs of the activation function and of lin2
    attention      heads N' ctx + 1.5 N' A: the maps, and copies of q for the relative positions; or with fused
                   attention 4 heads N' (d + h + w) - N' A: longer q, k, v and output

Tests hold the formula within a quarter of what torch keeps.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from .models import sdpa
from .models.families import blocks_of, geometry_of
from .models.family import Block, Geometry

_NECK_MAPS = 7
"""Maps of N x out_channels that the neck keeps besides its input: two convolutions, two norms of several steps."""
_DECODER_MAPS = 28
"""Likewise the mask decoder: six a layer of its transformer, three of its last attention, and the upscaling."""
_LOSS_GRIDS = 4
"""Grids of the input's size that both losses keep."""
_WORK_MAPS = 2.5
"""Attention maps alive beside the one that is kept, while scores become probabilities or gradients of them."""


@dataclass(frozen=True)
class Activations:
    """Bytes for one image.

    Attributes:
        kept: What autograd keeps of the blocks.
        entering: What enters the blocks; with checkpointing all that is kept, apart from one block at a time.
        largest_block: Of `kept`, the share of the largest block.
        around: What autograd keeps of neck, prompt and mask decoder, and losses.
        layer_gradients: Gradients at the outputs of the prunable layers, which calibration holds between two losses.
        attention_work: Most that one attention has alive at a time beside what is kept, with gradients.
        forward_work: Most that a forward pass without gradients has alive at a time.
        weight_gradient: The largest weight gradient of one sample.
    """

    kept: int
    entering: int
    largest_block: int
    around: int
    layer_gradients: int
    attention_work: int
    forward_work: int
    weight_gradient: int

    def saved(self, checkpointing: bool) -> int:
        """Bytes kept at the end of the forward pass, or with checkpointing while the largest block is recomputed."""
        return self.around + (self.entering + self.largest_block if checkpointing else self.kept)


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a block by the names of the module's docstring, and bytes a number."""

    block: Block
    geometry: Geometry
    element: int

    @property
    def n(self) -> int:
        return self.geometry.tokens_side**2

    @property
    def side(self) -> int:
        return self.block.window or self.geometry.tokens_side

    @property
    def padded(self) -> int:
        return (self.side * -(-self.geometry.tokens_side // self.side)) ** 2

    @property
    def channels(self) -> int:
        return self.block.num_heads * self.block.head_dim

    @property
    def maps(self) -> int:
        return self.block.num_heads * self.padded * self.side**2

    @property
    def fused(self) -> bool:
        return isinstance(self.block.attention, sdpa.SdpaAttention)

    @property
    def longer(self) -> int:
        positions = 2 * self.side if getattr(self.block.attention, "use_rel_pos", False) else 0
        return self.block.num_heads * self.padded * (self.block.head_dim + positions)

    def kept(self) -> int:
        d = self.geometry.embed_dim
        attention = 4 * self.longer - self.padded * self.channels
        if not self.fused:
            attention = self.maps + 3 * self.padded * self.channels // 2
        rest = 3 * self.n * d + self.padded * d + 5 * self.padded * self.channels + 2 * self.n * self.block.neurons
        return self.element * (rest + attention)

    def layer_gradients(self) -> int:
        d = self.geometry.embed_dim
        return self.element * (self.padded * (3 * self.channels + d) + self.n * (self.block.neurons + d))

    def attention_work(self) -> int:
        return self.element * (5 * self.longer if self.fused else round(_WORK_MAPS * self.maps))

    def forward_work(self) -> int:
        d, tokens = self.geometry.embed_dim, self.padded * self.channels
        if self.fused:
            # a mask, and the larger of its two copies while it is made
            attention = (
                2 * min(max(sdpa.MASK_BYTES // self.element, self.padded * self.side**2), self.maps) + 5 * tokens
            )
        else:
            attention = 3 * self.maps + 4 * tokens
        return self.element * (2 * self.n * d + max(attention, 2 * self.n * self.block.neurons + self.n * d))


def activations_of(model: nn.Module) -> Activations:
    """Count what one image takes in a model as it is: its size, heads, neurons and attention.

    Args:
        model: A `Sam` or its encoder, on any device, `meta` included.

    Returns:
        Bytes, in the model's own dtype.
    """
    geometry = geometry_of(model)
    element = next(model.parameters()).element_size()
    sizes = [_Sizes(block, geometry, element) for block in blocks_of(model)]
    n = geometry.tokens_side**2
    around = n * geometry.embed_dim + (_NECK_MAPS + _DECODER_MAPS) * n * geometry.out_channels
    return Activations(
        kept=sum(each.kept() for each in sizes),
        entering=element * len(sizes) * n * geometry.embed_dim,
        largest_block=_most(each.kept() for each in sizes),
        around=element * (around + _LOSS_GRIDS * geometry.image_size**2),
        layer_gradients=sum(each.layer_gradients() for each in sizes),
        attention_work=_most(each.attention_work() for each in sizes),
        forward_work=_most(each.forward_work() for each in sizes),
        weight_gradient=_most(layer.weight.numel() * element for each in sizes for layer in each.block.layers.values()),
    )


def _most(values: Iterable[int]) -> int:
    return max(values, default=0)
