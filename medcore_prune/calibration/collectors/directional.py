"""Directional Fisher: each sample's slope along the one direction in which a unit goes (METHOD section 12).

Removing a unit, or giving it the reference's weights back, moves all of its parameters together along one vector v.
The second-order cost by the empirical Fisher is then one square a sample, with the cross terms that a diagonal drops:

    1/2 v^T E[g g^T] v = 1/2 E[(v . g)^2]        diagonal: 1/2 sum_j E[g_j^2] v_j^2

with g = dL/dtheta of one sample. For y = W x + b, d = dL/dy and any step (V, c) of (W, b), summed over tokens t:

    row r:    sum_t d[t, r] (V x_t + c)[r]          column c:    sum_t x[t, c] (V^T d_t)[c] = sum_r V[r, c] G[r, c]

The row form is one product for both losses, without a weight gradient. In the column form G = sum_t d_t x_t^T, the
sample's gradient of the output layer, costs what V^T d_t costs, is smaller where there are more tokens than outputs,
and serves every direction: it is formed for one layer at a time and dropped.

Both losses' slopes are kept as sums of d0^2, 2 d0 d1 and d1^2, which give every lambda_B: three numbers a unit.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from ...models.groups import StructuredGroup, groups_of
from ..collector import SQUARES, Collector, register_collector, squares
from ..layer_gradients import LayerBatch

Direction = Literal["zero", "reset"]


def row_slopes(batch: LayerBatch, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Slope of each sample's loss along a step of each row of a layer, its bias included; (B, out) for each loss."""
    steps = torch.nn.functional.linear(batch.inputs, weight, bias)
    return [torch.einsum("bto,bto->bo", d, steps) for d in batch.gradients]


def column_slopes(batch: LayerBatch, weight: Tensor) -> list[Tensor]:
    """Slope of each sample's loss along a step of each column of a layer; (out, in) to (B, in) for each loss."""
    return [torch.einsum("boi,oi->bi", gradient, weight) for gradient, _ in batch.per_sample]


class _Directional(Collector):
    """Sums of squared slopes of each unit, `<layer_out>.units` of shape (n_units,)."""

    powers = SQUARES

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        super().__init__(model, reference)
        self._groups = {name: group for group in groups_of(model) for name, _ in group.layers}

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {f"{group.name_out}.units": (group.n_units,) for group in groups_of(model)}

    def _summed(self, group: StructuredGroup, slopes: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, value in squares(slopes):
            yield f"{name}/{group.name_out}.units", value


@register_collector("directional_zero", source="Kwon et al. 2022, arXiv 2204.09656")
class DirectionalZero(_Directional):
    """Squared slopes along removal: v is minus the unit's columns of `layer_out`, everything else of it at rest.

        d(u) = sum_{j in columns of u} theta_j dL/dtheta_j = sum_t sum_{c in u} h[t, c] dL/dh[t, c]

    where h is the input of `proj` or `lin2`: the slope of a mask on the unit's output (Kwon et al. 2022, arXiv
    2204.09656). A unit is gone once its columns are zero, whatever becomes of its rows, and the layer's output is
    linear in them: of all paths to the same end this one is straight in the output, so that a first order along it
    leaves out the least. To count the rows as well would count the same removal twice: an MLP of ReLUs has the same
    slope along the rows and biases of a neuron as along its columns.
    """

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        group = self._groups[layer_name]
        if layer_name == group.name_out:
            channels = column_slopes(batch, group.layer_out.weight.detach().to(batch.inputs))
            yield from self._summed(group, [_over_units(values, group.out_cols) for values in channels])


@register_collector("directional_reset")
class DirectionalReset(_Directional):
    """Squared slopes along the way back to the reference: v is theta_S - theta_M on all parameters of the unit.

        d(u) = sum_{j in u} (theta_M,j - theta_S,j) dL/dtheta_j,   rows and biases of its inputs, columns of `layer_out`

    It is taken on the adapted model alone: of the reference's own gradients, which the Cross-Fisher (Eq. 11) mixes in,
    nothing is known here.
    """

    reads_reference = True

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        super().__init__(model, reference)
        assert reference is not None
        self._reference = reference
        self._parts: dict[str, list[list[Tensor]]] = {}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        group = self._groups[layer_name]
        parts = self._parts.setdefault(group.name_out, [])
        parts.append(self._slopes(group, layer_name, batch))
        # squared once the slopes of all of the unit's layers are added up
        if len(parts) == len(group.layers):
            del self._parts[group.name_out]
            yield from self._summed(group, [torch.stack(of_loss).sum(0) for of_loss in zip(*parts, strict=True)])

    def _slopes(self, group: StructuredGroup, layer_name: str, batch: LayerBatch) -> list[Tensor]:
        theirs = self._reference.get_submodule(layer_name)
        assert isinstance(theirs, nn.Linear)
        if layer_name == group.name_out:
            weight = _difference(group.layer_out.weight, theirs.weight, batch.inputs)
            return [_over_units(values, group.out_cols) for values in column_slopes(batch, weight)]
        part = next(part for part in group.inputs if part.name == layer_name)
        weight = _difference(part.layer.weight, theirs.weight, batch.inputs)
        bias = None if part.layer.bias is None else _difference(part.layer.bias, theirs.bias, batch.inputs)
        return [_over_units(values, part.rows) for values in row_slopes(batch, weight, bias)]


def _difference(adapted: Tensor, reference: Tensor, like: Tensor) -> Tensor:
    return adapted.detach().to(like) - reference.detach().to(like)


def _over_units(channels: Tensor, members: Tensor) -> Tensor:
    """Add up each unit's channels: (B, n) and (n_units, k) to (B, n_units)."""
    return channels[:, members.to(channels.device)].sum(-1)
