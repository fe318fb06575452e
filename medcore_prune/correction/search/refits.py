"""What least squares makes of `proj` and `lin2` when a block keeps so many units: found once, put together at will.

All sums are over the streams of the dense network, so that a layer's refit depends on its own count alone:

    V = (H_KK)^-1 H_K: W',   H = X' D X + r I

over the kept inputs K, which is what `correct` solves for a layer whose inputs are still those of the dense network.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.errors import SurgeryError
from ..._support.progress import track
from ...models.families import blocks_of
from ...models.groups import StructuredGroup, groups_of
from ...models.protocol import embed
from ...pruning.budget import Key
from ...pruning.plan import Plan
from ...pruning.surgery import prune
from ..images import CorrectionImages
from ..least_squares import NormalEquations
from ..settings import CorrectionSettings
from ..streams import Shapes, fold_windows


@dataclass(frozen=True)
class Grid:
    """Where the tokens that a layer reads lie: `side` a side, in windows of `window`, 0 for none."""

    side: int
    window: int

    def fold(self, tokens: Tensor, images: int, name: str) -> Tensor:
        """Put a layer's tokens in order, (B, side, side, C), without the padding of windows."""
        n = -(-self.side // self.window) if self.window else 1
        expected = images * (n * self.window if self.window else self.side) ** 2 * tokens.shape[-1]
        if tokens.numel() != expected:
            raise SurgeryError(
                f"{name} reads {tokens.numel() // (images * tokens.shape[-1])} tokens an image: expected a square of "
                f"{self.side} x {self.side} without class tokens; its layers cannot be refitted, so search no budget"
            )
        return fold_windows(tokens, images, self.side, self.window)


class DenseSums:
    """Sums over the inputs and outputs of the layers that groups add to the stream with, in the dense network.

    As many layers at a time as their sums fit into `limit_bytes`, at least one; each such part runs all images.
    """

    def __init__(
        self, model: nn.Module, images: CorrectionImages, groups: Sequence[StructuredGroup], limit_bytes: float
    ) -> None:
        self._model, self._images = model, images
        self.parts = _parts(groups, limit_bytes)
        self._grids = {
            block.layer_names[role]: Grid(block.tokens_side, block.window if role == "proj" else 0)
            for block in blocks_of(model)
            for role in ("proj", "lin2")
        }

    def read(self, progress: bool) -> Iterator[tuple[StructuredGroup, NormalEquations]]:
        """Yield each group with the sums of its layer; those of the part before are given up."""
        steps = [(part, batch) for part in self.parts for batch in self._images.batches]
        sums: dict[str, NormalEquations] = {}
        read = zip(steps, self._images.read(batch for _, batch in steps), strict=True)
        for (part, _), (batch, seen) in track(read, "reading streams", total=len(steps), show=progress):
            if not sums:
                sums = {group.name_out: NormalEquations(group.layer_out) for group in part}
            images, boxes, owner = seen
            self._images.weigh(batch, images, boxes, owner)
            weights = self._images.weights(batch)
            with self._adding(sums, part, len(images), weights, batch.share):
                embed(self._model, images)
            if batch is self._images.batches[-1]:
                yield from ((group, sums[group.name_out]) for group in part)
                sums = {}

    @contextmanager
    def _adding(
        self,
        sums: Mapping[str, NormalEquations],
        part: Sequence[StructuredGroup],
        images: int,
        weights: Mapping[str, Tensor],
        share: float,
    ) -> Iterator[None]:
        def watch(name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
            def add(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                inputs, outputs = (self._grids[name].fold(each, images, name) for each in (args[0], output))
                of_layer = weights.get(name)
                sums[name].add(inputs, outputs, None if of_layer is None else of_layer.to(inputs.device), share)

            return layer.register_forward_hook(add)

        handles = [watch(group.name_out, group.layer_out) for group in part]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _parts(groups: Sequence[StructuredGroup], limit_bytes: float) -> list[list[StructuredGroup]]:
    parts: list[list[StructuredGroup]] = []
    room = 0.0
    for group in groups:
        inputs, outputs = group.layer_out.in_features, group.layer_out.out_features
        needed = torch.float64.itemsize * inputs * (inputs + outputs)
        if not parts or needed > room:
            parts.append([])
            room = limit_bytes
        parts[-1].append(group)
        room -= needed
    return parts


@dataclass(frozen=True)
class Refitted:
    """A plan and the weights of the layers that it cuts, (out, inputs kept) by name: little, beside the whole model."""

    plan: Plan
    weights: Mapping[str, Tensor]

    def build(self, model: nn.Module) -> nn.Module:
        """Cut a model by the plan, and put the refits in."""
        small = prune(model, self.plan)
        for name, weight in self.weights.items():
            small.get_submodule(name).weight.copy_(weight)  # type: ignore[operator]
        return small

    def __reduce__(self) -> tuple[Any, ...]:
        # a part of a tensor is pickled with all that it is a part of
        return Refitted, (self.plan, {name: weight.clone() for name, weight in self.weights.items()})


class Refits:
    """Weights of every group's layer at every count, in the room that `room_for` made for `shapes_of`.

    Args:
        model: The dense model.
        order: Group to its units, the first to go first.
        counts: Group to the units that it may keep.
        room: Name of a layer to a flat tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        order: Mapping[Key, Tensor],
        counts: Mapping[Key, Sequence[int]],
        room: Mapping[str, Tensor],
    ) -> None:
        self._order, self._counts, self._room = order, counts, room
        self.groups = [group for group in groups_of(model) if _cut_counts(group, counts)]

    def fit(self, sums: DenseSums, settings: CorrectionSettings, progress: bool) -> None:
        """Fit all of them."""
        for group, equations in sums.read(progress):
            for count, place in self._places(group).items():
                weight = equations.keeping(self._inputs(group, count)).fitted(settings.ridge, group.name_out).T
                if not bool(torch.isfinite(weight).all()):
                    raise SurgeryError(f"{group.name_out}: the refit that keeps {count} of its units is not finite")
                self._room[group.name_out][place].copy_(weight.flatten())

    def weight(self, group: StructuredGroup, count: int) -> Tensor:
        """Weight of a group's layer that keeps so many units, (out, inputs kept)."""
        return self._room[group.name_out][self._places(group)[count]].view(group.layer_out.out_features, -1)

    def of(self, plan: Plan) -> "Refitted":
        """Say what becomes of the model by a plan of these orders and counts; whole groups stay as they are."""
        kept = [(group, len(plan.blocks[group.block].keep(group.family))) for group in self.groups]
        cut = [(group, count) for group, count in kept if count < group.n_units]
        return Refitted(plan, {group.name_out: self.weight(group, count) for group, count in cut})

    def _inputs(self, group: StructuredGroup, count: int) -> Tensor:
        kept = self._order[group.block, group.family][group.n_units - count :]
        return group.out_cols[kept.sort().values].flatten().to(group.layer_out.weight.device)

    def _places(self, group: StructuredGroup) -> dict[int, slice]:
        places, start = {}, 0
        for count in _cut_counts(group, self._counts):
            size = _size(group, count)
            places[count] = slice(start, start + size)
            start += size
        return places


def shapes_of(model: nn.Module, counts: Mapping[Key, Sequence[int]]) -> Shapes:
    """Room that the refits need, by layer."""
    return {
        group.name_out: ((sum(_size(group, count) for count in kept),), group.layer_out.weight.dtype)
        for group in groups_of(model)
        if (kept := _cut_counts(group, counts))
    }


def _cut_counts(group: StructuredGroup, counts: Mapping[Key, Sequence[int]]) -> list[int]:
    return [count for count in counts[group.block, group.family] if count < group.n_units]


def _size(group: StructuredGroup, count: int) -> int:
    return count * group.unit_size * group.layer_out.out_features
