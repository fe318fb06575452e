"""Multiply-accumulates of an encoder's parts for one image, under two named conventions; each block says its sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from .._support.errors import BudgetError
from .families import blocks_of, family_of, geometry_of
from .family import Block, Geometry

_RGB = 3  # channels of the input image
_NECK_KERNEL = 3 * 3  # SAM's neck: a 1 x 1 convolution, then a 3 x 3 one


@dataclass(frozen=True)
class Convention:
    """What counts as a multiply-accumulate: of everything around the blocks, of a head, and of a neuron.

    `around_macs` is SAM's; a family with convolutions between its blocks counts them itself (`fixed_macs`), with the
    neck apart, which `counts_neck` says whether to add.
    """

    around_macs: Callable[[Geometry, Sequence[Block]], int]
    counts_neck: bool
    head_macs: Callable[[Block], int]
    neuron_macs: Callable[[Block], int]

    def block_macs(self, block: Block, heads: int, neurons: int) -> int:
        """Of a block with so many heads and neurons left."""
        return heads * self.head_macs(block) + neurons * self.neuron_macs(block)


def _patch_macs(geometry: Geometry, blocks: Sequence[Block]) -> int:
    return geometry.tokens_side**2 * geometry.embed_dim * _RGB * geometry.patch_size**2


def _patch_and_neck_macs(geometry: Geometry, blocks: Sequence[Block]) -> int:
    last = blocks[-1]
    neck = geometry.out_channels * (last.width + _NECK_KERNEL * geometry.out_channels)
    return _patch_macs(geometry, blocks) + last.tokens_side**2 * neck


def _neuron_macs(block: Block) -> int:
    return 2 * block.tokens * block.width


def _paper_head_macs(block: Block) -> int:
    context = block.window**2 or block.tokens
    return 4 * block.tokens * block.width * block.head_dim + 2 * block.tokens * context * block.head_dim


def _full_head_macs(block: Block) -> int:
    side = block.window or block.tokens_side
    # windows that overhang the image are filled up with zeros, which are multiplied like all else
    n, context = (block.padded_side**2, side**2) if block.window else (block.tokens, block.tokens)
    # each token meets every row and every column offset of its window once
    relative = 2 * side if getattr(block.attention, "use_rel_pos", False) else 0
    return n * block.head_dim * (4 * block.width + 2 * context + relative)


CONVENTIONS: dict[str, Convention] = {
    # METHOD section 7: no window padding, no relative positions, no neck
    "paper": Convention(_patch_macs, False, _paper_head_macs, _neuron_macs),
    # every matrix product and convolution that runs
    "full": Convention(_patch_and_neck_macs, True, _full_head_macs, _neuron_macs),
}


def convention_named(name: str) -> Convention:
    """Return what a name in `CONVENTIONS` counts."""
    if name not in CONVENTIONS:
        raise BudgetError(f"unknown FLOPs convention {name!r}: expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


def fixed_macs(model: nn.Module, rule: Convention) -> int:
    """Count what no cut changes: everything in the encoder that is no head's and no neuron's."""
    own = getattr(family_of(model), "fixed_macs", None)
    if own is None:
        return rule.around_macs(geometry_of(model), blocks_of(model))
    around, neck = own(model)
    return int(around + neck * rule.counts_neck)


def macs_of(model: nn.Module, name: str = "full") -> tuple[int, list[int]]:
    """Count a model's encoder as it is: everything around the blocks, and each block."""
    rule, blocks = convention_named(name), blocks_of(model)
    each = [rule.block_macs(block, block.num_heads, block.neurons) for block in blocks]
    return fixed_macs(model, rule), each
