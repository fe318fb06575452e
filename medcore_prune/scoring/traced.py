"""torch-pruning's groups of any model that it traced, seen as structured groups.

Two shapes of group are units in the sense of this package: a linear layer whose outputs feed exactly one other linear
layer channel by channel (the neurons of an MLP), and a fused `qkv` whose three parts, or three layers `q`, `k` and `v`,
feed an output projection (the heads of an attention). Everything else, the residual stream above all, is none.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch_pruning as tp
from torch import Tensor, nn

from .._support.errors import CriterionError
from ..models.families import FAMILIES
from ..models.groups import Family, StructuredGroup, UnitRows, groups_of


def _producers(group: tp.Group) -> list[tuple[nn.Linear, tp.dependency.Dependency]]:
    """Return layers and items whose outputs go, where they are one or three and one layer's inputs go; else none."""
    producers, consumers = [], []
    for item in group:
        module = item.dep.target.module
        if isinstance(module, nn.Linear) and item.dep.handler == tp.prune_linear_out_channels:
            producers.append((module, item))
        elif isinstance(module, nn.Linear) and item.dep.handler == tp.prune_linear_in_channels:
            consumers.append(module)
        elif isinstance(module, nn.Parameter) or any(True for _ in module.parameters()):
            return []
    return producers if len(consumers) == 1 and len(producers) in (1, 3) else []


def _rows_of_channels(item: tp.dependency.Dependency, channels: int) -> Tensor | None:
    """Rows of the producing layer that go with each input channel of the consuming one: (channels, k), ascending."""
    rows: dict[int, list[int]] = defaultdict(list)
    for row, root in zip(item.idxs, item.root_idxs, strict=True):
        rows[root].append(row)
    sizes = {len(own) for own in rows.values()}
    if len(rows) != channels or len(sizes) != 1 or None in rows:
        return None
    return torch.tensor([sorted(rows[channel]) for channel in range(channels)])


def structured_from(
    graph: tp.DependencyGraph, layer_out: nn.Linear, names: Mapping[nn.Module, str], num_heads: Mapping[nn.Module, int]
) -> StructuredGroup | None:
    """See the group at the inputs of `layer_out` as heads or neurons of block 0; None where it is neither.

    `num_heads` has fused `qkv` layers with their heads, as torch-pruning's pruners take it; without it, each channel of
    an attention is a unit of its own.
    """
    channels = layer_out.in_features
    group = graph.get_pruning_group(layer_out, tp.prune_linear_in_channels, list(range(channels)))
    inputs: list[tuple[nn.Linear, Tensor]] = []
    for layer, item in _producers(group):
        rows = _rows_of_channels(item, channels)
        if rows is None or rows.numel() != layer.out_features:
            return None
        inputs.append((layer, rows))
    if not inputs:
        return None
    known = next((layer for layer, _ in inputs if layer in num_heads), None)
    units = channels if known is None else num_heads[known]
    if channels % units:
        raise CriterionError(
            f"{units} heads do not divide the {channels} channels of {names.get(inputs[0][0], 'an attention')}: "
            "pass the present num_heads to bind"
        )
    is_mlp = known is None and len(inputs) == 1 and inputs[0][1].shape[1] == 1
    return StructuredGroup(
        block=0,
        family="neurons" if is_mlp else "heads",
        n_units=units,
        unit_size=channels // units,
        inputs=tuple(UnitRows(layer, names.get(layer, ""), _of_units(rows, units)) for layer, rows in inputs),
        layer_out=layer_out,
        name_out=names.get(layer_out, ""),
        out_cols=torch.arange(channels).view(units, -1),
    )


def _of_units(rows: Tensor, units: int) -> Tensor:
    """Gather the rows of channels, (channels, parts), to those of units: q rows, then k rows, then v rows."""
    return rows.view(units, -1, rows.shape[1]).transpose(1, 2).reshape(units, -1)


def traced_groups(
    graph: tp.DependencyGraph, names: Mapping[nn.Module, str], num_heads: Mapping[nn.Module, int]
) -> list[StructuredGroup]:
    """List every group of heads or neurons in a traced model, in the order of its modules.

    `block` counts the groups of each family.
    """
    found: list[StructuredGroup] = []
    counts: dict[Family, int] = {"heads": 0, "neurons": 0}
    for layer in graph.model.modules():
        if not isinstance(layer, nn.Linear) or layer not in graph.module2node:
            continue
        group = structured_from(graph, layer, names, num_heads)
        if group is not None:
            found.append(replace(group, block=counts[group.family]))
            counts[group.family] += 1
    return found


def spread(group: tp.Group, units: StructuredGroup, scores: Tensor) -> Tensor:
    """Give every channel of a torch-pruning group, in the order of its starting indices, the score of its unit.

    torch-pruning averages channels to heads, so that a head's mean is its score again. `scores` is (n_units,).
    """
    root = group[0].dep.target.module
    members = next((part.rows for part in units.inputs if part.layer is root), units.out_cols)
    owner = torch.empty(members.numel(), dtype=torch.long)
    owner[members.flatten()] = torch.arange(units.n_units).repeat_interleave(members.shape[1])
    return scores[owner[torch.as_tensor(group[0].idxs)]]


def family_known(model: nn.Module) -> bool:
    """Whether some family of `encoders` shows the blocks of `model`."""
    return any(family.matches(model) for family in FAMILIES.values())


class UnitFinder:
    """Finds the structured group that a torch-pruning group belongs to, among all groups of the same model.

    The model is the whole one, or None to go by the one that torch-pruning traced. Groups are listed once and again
    after a cut, `num_heads` being read anew; `version` counts the listings.
    """

    def __init__(self, model: nn.Module | None = None, num_heads: Mapping[nn.Module, int] | None = None) -> None:
        self.version = 0
        self.groups: list[StructuredGroup] = []
        self._model = model
        self._num_heads = num_heads if num_heads is not None else {}
        self._family_known = model is not None and family_known(model)
        self._graph: Callable[[], tp.DependencyGraph | None] = lambda: None
        self._state: tuple[object, ...] = ()

    def find(self, group: tp.Group) -> StructuredGroup | None:
        """Return the units whose channels `group` holds, or None where it holds neither heads nor neurons."""
        # torch-pruning has no public way from a group to its graph
        self._refresh(group._DG)
        return next((units for units in self.groups if _starts_at_units(group, units)), None)

    def _refresh(self, graph: tp.DependencyGraph) -> None:
        same_model = bool(self.groups) and (self._family_known or self._graph() is graph)
        if same_model and self._state == _state(self.groups):
            return
        if self._model is not None and self._family_known:
            self.groups = groups_of(self._model)
        else:
            names = {module: name for name, module in (self._model or graph.model).named_modules()}
            self.groups = traced_groups(graph, names, self._num_heads)
        self.version += 1
        # a strong reference would keep a pruned model's whole graph in memory
        self._graph = weakref.ref(graph)
        self._state = _state(self.groups)


def _starts_at_units(group: tp.Group, units: StructuredGroup) -> bool:
    root, handler = group[0].dep.target.module, group[0].dep.handler
    at_inputs = root is units.layer_out and handler == tp.prune_linear_in_channels
    at_outputs = any(root is part.layer for part in units.inputs) and handler == tp.prune_linear_out_channels
    return at_inputs or at_outputs


def _state(groups: list[StructuredGroup]) -> tuple[object, ...]:
    """What changes when a layer is cut, trained on, or gets another gradient."""
    return tuple(
        (value.data_ptr(), tuple(value.shape), value._version)
        for group in groups
        for _, layer in group.layers
        for parameter in layer.parameters()
        for value in (parameter, parameter.grad)
        if value is not None
    )
