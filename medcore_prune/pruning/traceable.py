"""A SAM that torch-pruning's own pruners can trace: `with traceable(model): ...`.

Through window partition and relative positions torch-pruning's index mapping does not come back, and with 4096 tokens
its trace would take gigabytes. Neither matters to what is coupled: a head's channels of q, k, v and `proj`, a neuron's
row and column, and the residual stream. While the context lasts, attention computes q * k + v without windows and
positions, which couples the same channels, on inputs of any size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import MedcorePruneError, SurgeryError
from ..models.calls.altered import ForwardForTraces, refuse_hooked
from ..models.calls.call import working_on
from ..models.families import blocks_of, encoder_of, family_of
from ..models.family import Block
from ..models.groups import coupled_heads
from .plan import BlockPlan, Plan
from .surgery import lineage_of, remember_cut


@dataclass(frozen=True)
class BlockUnits:
    """All that belongs to the units of a block, as views of its weights; the first axis is the unit.

    Of heads, rows and bias entries of `qkv` and columns of `proj`; of neurons, those of `lin1` and columns of `lin2`.
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
    """Find each unit that is left among those that there were, both as `BlockUnits` holds them.

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
    """Write down a cut that was made since `units_of` looked, under the level `torch-pruning`.

    None where units are left that were not there before.
    """
    blocks = []
    for before in whole:
        after = units_of(before.block)
        heads, neurons = kept_of(after.heads, before.heads), kept_of(after.neurons, before.neurons)
        if not heads or not neurons:
            return None
        blocks.append(BlockPlan(before.block.index, len(before.heads[0]), len(before.neurons[0]), heads, neurons))
    return Plan("torch-pruning", tuple(blocks))


@contextmanager
def traceable(model: nn.Module) -> Iterator[nn.Module]:
    """Make a SAM's encoder traceable for torch-pruning as long as the block lasts, and its heads right afterwards.

    Build the pruner and let it step inside; run and train the model outside, for what it computes inside is not
    attention. One pruner makes one step: for more, build a new one in a context of its own each time (torch-pruning 1.6
    loses count of the heads in a pruner's second step, in any model). An example input may be small: (1, 3, 4 p, 4 p)
    for patches of p pixels. `num_heads` is what `heads_by_layer` returns. Heads go whole
    (`prune_num_heads=True, prune_head_dims=False`), and the residual stream stays, with everything but `qkv` and `lin1`
    in `ignored_layers`, which `all_but_units` lists.

    Args:
        model: segment-anything's `Sam` or encoder, or that of `transformers`.

    Yields:
        The image encoder, to be handed to `tp.pruner.BasePruner`. Afterwards `model` remembers which heads and neurons
        stayed, as after `prune`, so that `save` can write it; a `Sam` has to be given whole for that.

    Raises:
        MedcorePruneError: Another model: those of timm are traceable as they are, a TinyViT cannot be.
        SurgeryError: Parts of heads were pruned, or channels of the residual stream. Attention and positions are put
            back all the same, but do not fit the layers any longer.
    """
    with working_on(model, refuse=refuse_hooked, block="traceable"), _traced(model) as encoder:
        yield encoder


@contextmanager
def _traced(model: nn.Module) -> Iterator[nn.Module]:
    family = family_of(model)
    if any(block.head_tables for block in family.blocks(model)):
        raise MedcorePruneError(
            f"torch-pruning's pruners cannot follow the heads of {family.name}, whose positions are a table a head: "
            "use medcore_prune.plan and prune"
        )
    gives_weights: bool | None = getattr(family, "attention_gives_weights", None)
    if gives_weights is None:
        raise MedcorePruneError(f"{type(model).__name__} is traceable as it is: hand it to torch-pruning")
    encoder, before = encoder_of(model), blocks_of(model)
    remembered, whole = lineage_of(model), [units_of(block) for block in before]
    with ExitStack() as stack:
        for block in before:
            inputs = [block.layers[role] for role in block.head_inputs]
            forward = ForwardForTraces(_forward, inputs, block.layers["proj"], gives_weights)
            stack.enter_context(_replaced(block.attention, "forward", forward))
            stack.enter_context(_replaced(model.get_submodule(block.name), "window_size", 0))
        stack.enter_context(_replaced(encoder, "pos_embed", None))
        if gives_weights:
            patches: Any = encoder.patch_embed
            # which refuses images of another size
            stack.enter_context(_replaced(patches, "forward", lambda x: patches.projection(x).permute(0, 2, 3, 1)))
        yield encoder
    # not where the block was left by an error, which says more than what follows
    for units in whole:
        family.set_num_heads(units.block, _heads_left(units))
    plan = plan_of_cut(whole)
    if plan is not None and not all(part.untouched for part in plan.blocks):
        remember_cut(model, remembered, plan)


def heads_by_layer(model: nn.Module) -> dict[nn.Module, int]:
    """Return every layer that gives queries, keys or values with its number of heads, as torch-pruning wants them.

    Args:
        model: A model of a known family, or its encoder.

    Returns:
        The `num_heads` of torch-pruning's pruners, which they update.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    return {block.layers[role]: block.num_heads for block in blocks_of(model) for role in block.head_inputs}


def all_but_units(model: nn.Module) -> list[nn.Module]:
    """Return the layers of the encoder whose outputs are no units: all but those for q, k, v and `lin1`.

    Args:
        model: A model of a known family, or its encoder.

    Returns:
        The `ignored_layers` of torch-pruning's pruners.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    units = {block.layers[role] for block in blocks_of(model) for role in (*block.head_inputs, "lin1")}
    leaves = (layer for layer in encoder_of(model).modules() if not list(layer.children()))
    return [layer for layer in leaves if layer not in units]


def _forward(
    inputs: list[nn.Linear], proj: nn.Linear, gives_weights: bool, hidden_states: Tensor, *_: Any, **__: Any
) -> Tensor | tuple[Tensor, None]:
    attended = coupled_heads(inputs, proj, hidden_states)
    return (attended, None) if gives_weights else attended


@contextmanager
def _replaced(owner: nn.Module, name: str, value: Callable[..., Any] | int | None) -> Iterator[None]:
    """Give a module another attribute, be it a parameter or a method, and the old one back afterwards."""
    places = [place for place in (owner.__dict__, owner._parameters) if name in place]
    kept = places[0][name] if places else None
    if places:
        del places[0][name]
    owner.__dict__[name] = value
    try:
        yield
    finally:
        del owner.__dict__[name]
        if places:
            places[0][name] = kept


def _heads_left(whole: BlockUnits) -> int:
    """Count the heads, after making sure that each is one of those that were there."""
    block, width = whole.block, whole.heads[-1].shape[-1]
    if block.layers["proj"].out_features != width or block.layers["qkv"].in_features != width:
        raise SurgeryError(f"{block.name}: the residual stream was pruned: give all_but_units(model) as ignored_layers")
    kept = kept_of(units_of(block).heads, whole.heads)
    if not kept:
        raise SurgeryError(
            f"{block.name}: the {block.layers['proj'].in_features} channels left are no whole heads of "
            f"{block.head_dim}: prune with prune_num_heads=True, prune_head_dims=False"
        )
    return len(kept)
