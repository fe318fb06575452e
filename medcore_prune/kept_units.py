"""Which heads and neurons stayed where something else than `prune` did the cutting: their weights tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .models.family import Block
from .plan_record import BlockPlan, Plan


@dataclass(frozen=True)
class BlockUnits:
    """All that belongs to the units of a block, as views of its weights.

    Attributes:
        block: The block.
        heads: Rows and bias entries of `qkv`, and columns of `proj`; the first axis is the head.
        neurons: Rows and bias entries of `lin1`, and columns of `lin2`; the first axis is the neuron.
    """

    block: Block
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]


def units_of(block: Block) -> BlockUnits:
    """Look at the units of a block with a fused `qkv`, on the layers as they are now.

    Where its channels are no multiple of `head_dim`, parts of heads having gone, each is listed by itself.
    """
    qkv, proj, lin1, lin2 = (block.layers[role] for role in ("qkv", "proj", "lin1", "lin2"))
    size = block.head_dim if proj.in_features % block.head_dim == 0 else 1
    rows = (value.detach().unflatten(0, (3, -1, size)).transpose(0, 1) for value in qkv.parameters(recurse=False))
    columns = proj.weight.detach().T.unflatten(0, (-1, size))
    own = (value.detach() for value in lin1.parameters(recurse=False))
    return BlockUnits(block, (*rows, columns), (*own, lin2.weight.detach().T))


def kept_of(left: Sequence[Tensor], whole: Sequence[Tensor]) -> tuple[int, ...] | None:
    """Find each unit that is left among those that there were.

    Args:
        left, whole: As `BlockUnits` holds them, after and before.

    Returns:
        Indices into `whole`, ascending; None where some unit is none of them, in their order.
    """
    if [part.shape[1:] for part in left] != [part.shape[1:] for part in whole]:
        return None
    left, whole = [part.cpu() for part in left], [part.cpu() for part in whole]
    kept: list[int] = []
    for unit in zip(*left, strict=True):
        index = kept[-1] + 1 if kept else 0
        while index < len(whole[0]) and not all(
            torch.equal(own, part[index]) for own, part in zip(unit, whole, strict=True)
        ):
            index += 1
        if index == len(whole[0]):
            return None
        kept.append(index)
    return tuple(kept)


def plan_of_cut(whole: Sequence[BlockUnits]) -> Plan | None:
    """Write down a cut that was made since `units_of` looked.

    Args:
        whole: The units of every block before it.

    Returns:
        What stayed, under the level `torch-pruning` and without a criterion; None where units are left that were not
        there before.
    """
    blocks = []
    for before in whole:
        after = units_of(before.block)
        heads, neurons = kept_of(after.heads, before.heads), kept_of(after.neurons, before.neurons)
        if not heads or not neurons:
            return None
        blocks.append(BlockPlan(before.block.index, len(before.heads[0]), len(before.neurons[0]), heads, neurons))
    return Plan("torch-pruning", tuple(blocks))
