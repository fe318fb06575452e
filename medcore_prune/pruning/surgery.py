"""Masking and physical removal of heads and MLP neurons, and the proof that both give the same output."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import SurgeryError
from ..models.calls.altered import ZeroChannels, refuse_hooked
from ..models.calls.call import on_models, undisturbed, working_on
from ..models.families import blocks_of, family_of
from ..models.family import Block
from ..models.groups import StructuredGroup, groups_of
from ..models.precision import exactly
from ..models.protocol import embed
from .plan import BlockPlan, Plan, require_fits, sizes_left, sizes_of

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
    input is m_g = 0 of Eq. 2. Meanwhile another thread's call on the model is refused.

    Args:
        model: The model that the plan was made for.
        plan: What goes.

    Yields:
        The same model.

    Raises:
        SurgeryError: The plan does not fit the model; a part of it was compiled, patched or hooked, so that masks might
            not be seen; or, when the block ends, its last block ran without a layer that is masked.
        MedcorePruneError: Another thread has the model in such a block.
    """
    with working_on(model, refuse=refuse_hooked, block="masked"), _masking(model, plan) as masks:
        ran: list[bool] = []
        last = model.get_submodule(blocks_of(model)[-1].name)
        with _removed(last.register_forward_hook(lambda *_: ran.append(True))):
            yield model
        if ran:
            _require_seen(masks)


@contextmanager
def _masking(model: nn.Module, plan: Plan) -> Iterator[dict[str, ZeroChannels]]:
    """Put the masks on while the block lasts; by name of the layer whose input they zero."""
    require_fits(plan, model)
    masks: dict[str, ZeroChannels] = {}
    with ExitStack() as hooks, undisturbed():
        for group in groups_of(model):
            if dropped := channels_to_drop(group, plan.blocks[group.block]):
                layer = group.layer_out
                keep = torch.ones(layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)
                keep[dropped] = 0.0
                masks[group.name_out] = ZeroChannels(keep)
                hooks.enter_context(_removed(layer.register_forward_pre_hook(masks[group.name_out])))
        kept = hooks.pop_all()
    with kept:
        yield masks


@contextmanager
def _removed(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _require_seen(masks: Mapping[str, ZeroChannels]) -> None:
    """Refuse what ran without the layers that were masked, and so without the masks."""
    if unseen := [name for name, mask in masks.items() if not mask.calls]:
        raise SurgeryError(
            f"the mask of {unseen[0]} had no effect: the model ran without calling that layer (its class computes with "
            "the weight itself, or a copy runs in its place); a result of it is that of the whole model"
        )


@on_models("model", refuse=refuse_hooked)
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
            weights are computed from others or shared, a part was compiled, patched or hooked, or the model is within
            a `masked` or `traceable` block. Whatever is raised, the model is as it was.
    """
    require_fits(plan, model)
    _check_own_weights(model)
    pruned = model if inplace else copy.deepcopy(model)
    with _as_it_was_on_error(pruned):
        _cut(pruned, plan)
    return pruned


def _cut(pruned: nn.Module, plan: Plan) -> None:
    before = lineage_of(pruned)
    cuts = []
    for group in groups_of(pruned):
        if dropped := channels_to_drop(group, plan.blocks[group.block]):
            cut = group.tp_subgroup(dropped)
            _check_cut(cut, group)
            cuts.append(cut)
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


@contextmanager
def _as_it_was_on_error(model: nn.Module) -> Iterator[None]:
    """Put parameters and settings of every part back when the block raises, be it by the user's interrupt."""
    parts = list(model.modules())
    kept = [(vars(part).copy(), part._parameters.copy()) for part in parts]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for part, (settings, parameters) in zip(parts, kept, strict=True):
            vars(part).clear()
            vars(part).update(settings)
            part._parameters.clear()
            part._parameters.update(parameters)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        raise


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


@on_models("model", refuse=refuse_hooked)
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
        SurgeryError: The plan does not fit the model, or a mask had no effect on what its layer reads.
        MedcorePruneError: The model is of half precision and the images are not.
    """
    # whatever precision is set: the sums of fewer products round otherwise, in TF32 beyond what a proof may differ by
    with exactly():
        with _masking(model, plan) as masks:
            expected = embed(model, images)
        _require_seen(masks)
        got = embed(prune(model, plan), images)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


@on_models("model")
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
    require_fits(plan, model)
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
