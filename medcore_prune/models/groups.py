"""Structured groups: the heads, or the MLP neurons, of one block, coupled by torch-pruning's dependency graph.

Heads and neurons are coupled inside a block only, so the graph is traced over a small module that shares the block's
own layers. Tracing the whole encoder instead would follow `qkv` through window partition and relative positions,
where torch-pruning's index mapping does not come back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from .._support.errors import BudgetError, SurgeryError
from .families import blocks_of
from .family import Block

Family = Literal["heads", "neurons"]
FAMILY_NAMES: tuple[Family, ...] = ("heads", "neurons")


def coupled_heads(inputs: Sequence[nn.Linear], proj: nn.Linear, x: Tensor) -> Tensor:
    """x -> q, k, v -> q * k + v -> proj, (..., D) to (..., D): what couples a head's channels, and nothing else."""
    given = [layer(x) for layer in inputs]
    q, k, v = given[0].chunk(3, dim=-1) if len(given) == 1 else given
    coupled: Tensor = proj(q * k + v)
    return coupled


class _AttentionCoupling(nn.Module):
    def __init__(self, inputs: Sequence[nn.Linear], proj: nn.Linear) -> None:
        super().__init__()
        self.inputs, self.proj = nn.ModuleList(inputs), proj

    def forward(self, x: Tensor) -> Tensor:
        return coupled_heads(list(self.inputs), self.proj, x)  # type: ignore[arg-type]


class _MlpCoupling(nn.Module):
    """x -> lin1 -> relu -> lin2; any elementwise activation couples the same channels."""

    def __init__(self, lin1: nn.Linear, lin2: nn.Linear) -> None:
        super().__init__()
        self.lin1, self.lin2 = lin1, lin2

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(torch.relu(self.lin1(x)))


def _graph(coupling: nn.Module, layer_in: nn.Linear) -> tp.DependencyGraph:
    example = layer_in.weight.new_zeros((1, 1, layer_in.in_features))
    # torch-pruning reads gradient functions, so the trace needs weights that require gradients
    frozen = [p for p in coupling.parameters() if not p.requires_grad]
    # ... and leaves what it traced in evaluation mode
    modes = [(layer, layer.training) for layer in coupling.modules() if isinstance(layer, nn.Linear)]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            return tp.DependencyGraph().build_dependency(coupling, example_inputs=example, verbose=False)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for layer, mode in modes:
            layer.train(mode)


@dataclass(frozen=True)
class UnitRows:
    """Rows, and bias entries, of one layer that belong to units.

    Attributes:
        layer: `qkv`, one of `q`, `k` and `v`, or `lin1`.
        name: Its qualified name in the model.
        rows: (n_units, k) int64; k is 3 * head_dim in `qkv`, head_dim in `q`, `k` and `v`, the group size in `lin1`.
    """

    layer: nn.Linear
    name: str
    rows: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        _check_indices(self.rows, self.layer.out_features, f"rows of {self.name}")


@dataclass(frozen=True)
class StructuredGroup:
    """All units (heads, or MLP connection groups) of one family in one block.

    Attributes:
        block: Index of the block.
        family: `"heads"` or `"neurons"`.
        n_units: Number of units.
        unit_size: Channels of a unit: the head dimension, or the MLP group size.
        inputs: The layers that a unit owns rows of: `qkv`, or `q`, `k` and `v`, or `lin1`.
        layer_out: `proj` or `lin2`; a unit owns columns of it.
        name_out: Its qualified name in the model.
        out_cols: (n_units, unit_size) int64.
        table_params: Parameters of the block's `head_tables` that go with a unit.
    """

    block: int
    family: Family
    n_units: int
    unit_size: int
    inputs: tuple[UnitRows, ...]
    layer_out: nn.Linear
    name_out: str
    out_cols: Tensor = field(repr=False)
    table_params: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        _check_indices(self.out_cols, self.layer_out.in_features, f"columns of {self.name_out}")

    @property
    def layers(self) -> tuple[tuple[str, nn.Linear], ...]:
        """All layers that a unit has a part in with their qualified names, `layer_out` last."""
        return (*((part.name, part.layer) for part in self.inputs), (self.name_out, self.layer_out))

    @property
    def cost_params(self) -> int:
        """Parameters that leave with one unit, c_g of METHOD section 4."""
        given = sum(
            part.rows.shape[1] * (part.layer.in_features + (part.layer.bias is not None)) for part in self.inputs
        )
        return given + self.unit_size * self.layer_out.out_features + self.table_params

    @property
    def tp_group(self) -> tp.Group:
        """torch-pruning's group over all channels, started at the inputs of `layer_out`."""
        return self.tp_subgroup(range(self.layer_out.in_features))

    def tp_subgroup(self, channels: Iterable[int]) -> tp.Group:
        """torch-pruning's group over the given channels of `layer_out`'s input."""
        if self.family == "heads":
            coupling: nn.Module = _AttentionCoupling([part.layer for part in self.inputs], self.layer_out)
        else:
            coupling = _MlpCoupling(self.inputs[0].layer, self.layer_out)
        graph = _graph(coupling, self.inputs[0].layer)
        group = graph.get_pruning_group(self.layer_out, tp.prune_linear_in_channels, idxs=list(channels))
        if self.family == "heads" and len(self.inputs) == 1:
            self._lay_rows(group)
        return group

    def _lay_rows(self, group: tp.Group) -> None:
        """Name the rows of a fused `qkv` as they lie in it; the coupling takes its output for q, then k, then v.

        In ascending order, each with its channel: some importances of torch-pruning sort the rows alone.
        """
        part = self.inputs[0]
        traced = torch.cat([self.out_cols + n * self.out_cols.numel() for n in range(3)], dim=1).flatten()
        place = dict(zip(traced.tolist(), part.rows.flatten().tolist(), strict=True))
        for n, item in enumerate(group.items):
            if item.dep.target.module is part.layer:
                rows = [place[row] for row in item.idxs]
                order = sorted(range(len(rows)), key=rows.__getitem__)
                group[n] = type(item)(dep=item.dep, idxs=[rows[k] for k in order])
                group[n].root_idxs = [item.root_idxs[k] for k in order]

    def in_model(self, model: nn.Module) -> "StructuredGroup":
        """The same group on the layers that another model has under the same names.

        Raises:
            SurgeryError: It has no such linear layer, or a smaller one than the indices.
        """
        layers: dict[str, nn.Linear] = {}
        for name, _ in self.layers:
            try:
                layer = model.get_submodule(name)
            except AttributeError as error:
                raise SurgeryError(f"there is no layer {name}: {error}") from None
            if not isinstance(layer, nn.Linear):
                raise SurgeryError(f"{name} is a {type(layer).__name__}: expected a linear layer")
            layers[name] = layer
        inputs = tuple(replace(part, layer=layers[part.name]) for part in self.inputs)
        return replace(self, inputs=inputs, layer_out=layers[self.name_out])


def _check_indices(index: Tensor, size: int, what: str) -> None:
    if type(index) is not Tensor:
        return  # a shape without numbers, as where memory is estimated
    flat = index.numpy().ravel()
    if not flat.size:
        return
    if flat.min() < 0 or flat.max() >= size:
        raise SurgeryError(f"group indices reach {flat.max()} but there are only {size} {what}")
    if np.bincount(flat).max() > 1:
        raise SurgeryError(f"group indices name some {what} twice")


def _head_group(block: Block) -> StructuredGroup:
    return StructuredGroup(
        block=block.index,
        family="heads",
        n_units=block.num_heads,
        unit_size=block.head_dim,
        inputs=tuple(
            UnitRows(block.layers[role], block.layer_names[role], block.head_rows(role)) for role in block.head_inputs
        ),
        layer_out=block.layers["proj"],
        name_out=block.layer_names["proj"],
        out_cols=torch.arange(block.num_heads * block.head_dim).view(block.num_heads, block.head_dim),
        table_params=block.table_params,
    )


def _neuron_group(block: Block, size: int) -> StructuredGroup:
    if size < 1 or block.neurons % size:
        raise BudgetError(
            f"mlp_group_size {size} does not divide the {block.neurons} neurons of {block.name}: choose one that does"
        )
    channels = torch.arange(block.neurons).view(-1, size)
    return StructuredGroup(
        block=block.index,
        family="neurons",
        n_units=len(channels),
        unit_size=size,
        inputs=(UnitRows(block.layers["lin1"], block.layer_names["lin1"], channels),),
        layer_out=block.layers["lin2"],
        name_out=block.layer_names["lin2"],
        out_cols=channels,
    )


def groups_of(model: nn.Module, mlp_group_size: int = 1) -> list[StructuredGroup]:
    """List the structured groups of a model: for each block its heads, then its neurons.

    Args:
        model: A model of a known family, on any device, `meta` included.
        mlp_group_size: Neurons that go together, for hardware that likes multiples.

    Returns:
        Two groups a block, shallowest block first.

    Raises:
        BudgetError: The group size does not divide a block's neurons.
        SurgeryError: The layers' shapes do not fit the number of heads.
    """
    blocks = blocks_of(model)
    return [group for block in blocks for group in (_head_group(block), _neuron_group(block, mlp_group_size))]
