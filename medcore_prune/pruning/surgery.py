"""Masking and physical removal of heads and MLP neurons, and the proof that both give the same output."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import SurgeryError
from ..models.altered import ZeroChannels, refuse_masked
from ..models.families import blocks_of, family_of
from ..models.family import Block
from ..models.groups import StructuredGroup, groups_of
from ..models.protocol import embed
from .plan import BlockPlan, Plan, sizes_left, sizes_of

_ATTRIBUTE = "_medcore_lineage"


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from.

    `plan` is what was cut since the model was whole, in the indices of the whole model; None where nothing was, or
    where something else than `prune` and `traceable` saw the cutting. `provenance` has JSON values, as `save` writes
    them.
    """

    plan: Plan | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def lineage_of(model: nn.Module) -> Lineage:
    """Return what a model remembers; a plan that no longer fits its sizes is forgotten."""
    found = getattr(model, _ATTRIBUTE, None)
    if not isinstance(found, Lineage):
        return Lineage()
    if found.plan is not None and sizes_left(found.plan) != sizes_of(model):
        return replace(found, plan=None)
    return found


def remember(model: nn.Module, lineage: Lineage) -> None:
    """Make a model remember; copies of it will too."""
    setattr(model, _ATTRIBUTE, lineage)


def remember_cut(model: nn.Module, before: Lineage, plan: Plan) -> None:
    """Add a cut, in the indices of the model `before` it, to what a model remembers in those of the whole model."""
    remember(model, replace(before, plan=plan if before.plan is None else before.plan.then(plan)))


def channels_to_drop(group: StructuredGroup, part: BlockPlan) -> list[int]:
    """Return the input channels of a group's `layer_out` that a plan takes, ascending."""
    kept = set(part.keep(group.family))
    units = [index for index in range(part.size(group.family)) if index not in kept]
    return units if group.family == "neurons" else group.out_cols[units].flatten().tolist()


@contextmanager
def masked(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Zero what a plan removes for as long as the block lasts; parameters are not touched.

    A head or a neuron contributes through columns of `proj` or `lin2` alone, so zeroing its channels at that layer's
    input is m_g = 0 of Eq. 2.

    Args:
        model: The model that the plan was made for.
        plan: What goes.

    Yields:
        The same model.

    Raises:
        SurgeryError: The plan does not fit the model.
    """
    plan.check_fits(model)
    with ExitStack() as masks:
        for group in groups_of(model):
            if dropped := channels_to_drop(group, plan.blocks[group.block]):
                layer = group.layer_out
                keep = torch.ones(layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)
                keep[dropped] = 0.0
                masks.callback(layer.register_forward_pre_hook(ZeroChannels(keep)).remove)
        yield model


def prune(model: nn.Module, plan: Plan, *, inplace: bool = False) -> nn.Module:
    """Remove heads and neurons physically, through torch-pruning's dependency groups.

    Args:
        model: The model that the plan was made for.
        plan: What goes.
        inplace: Change `model` itself instead of a copy.

    Returns:
        The pruned model. Kept weights are bit for bit what they were. It remembers the plan (`lineage`), so that
        `save` can name what was kept by the indices of the whole model.

    Raises:
        SurgeryError: The plan does not fit, a group's indices do not fit the layers, a layer has an adapter, its
            weights are computed from others or shared, or the model is within a `masked` or `traceable` block; nothing
            is changed then.
    """
    refuse_masked(model)
    plan.check_fits(model)
    _check_own_weights(model)
    pruned = model if inplace else copy.deepcopy(model)
    before = lineage_of(pruned)
    cuts = []
    for group in groups_of(pruned):
        if dropped := channels_to_drop(group, plan.blocks[group.block]):
            cut = group.tp_subgroup(dropped)
            _check_cut(cut, group)
            cuts.append(cut)
    # all groups have been built and checked: from here on nothing can fail half-way
    family = family_of(pruned)
    blocks = family.blocks(pruned)
    trainable = {name: parameter.requires_grad for name, parameter in pruned.named_parameters()}
    for cut in cuts:
        cut.prune()
    # torch-pruning makes new parameters, which would need gradients even where the old ones were frozen
    for name, parameter in pruned.named_parameters():
        parameter.requires_grad_(trainable[name])
    for block, part in zip(blocks, plan.blocks, strict=True):
        _cut_tables(block, part)
        family.set_num_heads(block, len(part.keep_heads))
    remember_cut(pruned, before, plan)
    return pruned


def _cut_tables(block: Block, part: BlockPlan) -> None:
    """Leave of tables with a row a head those of the heads that stay."""
    if len(part.keep_heads) == part.heads:
        return
    for name in block.head_tables:
        old = block.attention.get_parameter(name)
        rows = torch.tensor(part.keep_heads, device=old.device)
        setattr(block.attention, name, nn.Parameter(old.detach()[rows], requires_grad=old.requires_grad))


def _check_own_weights(model: nn.Module) -> None:
    """Refuse layers whose weights are tied to others, and cannot be cut by themselves."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for group in groups_of(model):
        for _, layer in group.layers:
            for parameter in layer.parameters(recurse=False):
                if len(shared := names.get(id(parameter), [])) > 1:
                    raise SurgeryError(f"{shared[0]} and {shared[1]} are one tensor: give each layer its own first")


def _check_cut(cut: Iterable[tuple[Any, list[int]]], group: StructuredGroup) -> None:
    """Check every index set of a torch-pruning group against the shape of the layer it cuts."""
    for dependency, index in cut:
        layer = dependency.target.module
        if not isinstance(layer, nn.Linear):
            continue
        out = layer is not group.layer_out
        size = layer.out_features if out else layer.in_features
        if len(set(index)) != len(index) or min(index) < 0 or max(index) >= size:
            name = next(name for name, own in group.layers if own is layer)
            raise SurgeryError(
                f"torch-pruning names {len(index)} channels of {name} up to {max(index)}, but it has {size}"
            )


@torch.no_grad()
def verify(model: nn.Module, plan: Plan, images: Tensor) -> float:
    """Compare the encoder's output with groups masked and with groups removed.

    Args:
        model: The unpruned model, or its encoder.
        plan: What goes.
        images: (B, 3, S, S) encoder input.

    Returns:
        The largest absolute difference over all outputs, relative to the largest absolute output.

    Raises:
        SurgeryError: The plan does not fit the model.
        MedcorePruneError: The model is of half precision and the images are not.
    """
    with masked(model, plan):
        expected = embed(model, images)
    got = embed(prune(model, plan), images)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def parameter_masks(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Return what a plan removes as masks, one a parameter, for `torch.nn.utils.prune.custom_from_mask`.

    Args:
        model: The model that the plan was made for.
        plan: What goes.

    Returns:
        Parameter name to a tensor of its shape and device, 1 where it stays and 0 where it goes; weights of all
        prunable layers, biases of those whose rows go, and tables with a row a head.

    Raises:
        SurgeryError: The plan does not fit the model.
    """
    plan.check_fits(model)
    masks: dict[str, Tensor] = {}
    for group in groups_of(model):
        columns = channels_to_drop(group, plan.blocks[group.block])
        gone = sorted({column // group.unit_size for column in columns})
        mask = torch.ones_like(group.layer_out.weight)
        mask[:, columns] = 0
        masks[f"{group.name_out}.weight"] = mask
        for part in group.inputs:
            rows = part.rows[gone].flatten()
            for name, parameter in part.layer.named_parameters():
                mask = torch.ones_like(parameter)
                mask[rows] = 0
                masks[f"{part.name}.{name}"] = mask
    for block, cut in zip(blocks_of(model), plan.blocks, strict=True):
        for name in block.head_tables:
            mask = torch.zeros_like(block.attention.get_parameter(name))
            mask[list(cut.keep_heads)] = 1
            attention = block.layer_names["proj"].rpartition(".")[0]
            masks[f"{attention}.{name}"] = mask
    return {name: mask.detach() for name, mask in masks.items()}
