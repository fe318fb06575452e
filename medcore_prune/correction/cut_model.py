"""One pruned model within a correction: its stream, what is fitted of it, and what came of that."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..models.families import blocks_of
from ..models.family import Block
from .block_fit import BlockFitter
from .head_values import as_one_layer, factors_of, fit_factors, pooled_inputs, worth_fitting, write_factors
from .images import Batch
from .least_squares import NormalEquations, Solution
from .settings import TARGETS, BlockCorrection, CorrectionSettings, LayerCorrection
from .streams import ADDING_LAYERS, Stream, observe, passed


@dataclass(frozen=True)
class LayerFit:
    """One layer that is being fitted: `add` takes a batch's target into the sums, and `solve` writes the layer.

    `add` reads what of the dense layer the target reads, (B, h, w, D), the weights of the tokens and the batch.
    """

    add: Callable[[Tensor, Tensor | None, Batch], None]
    solve: Callable[[], LayerCorrection]


class CutModel:
    """A pruned model whose stream is carried from block to block; weights are written as they are fitted.

    `layers` and `blocks` say what came of it.
    """

    def __init__(self, model: nn.Module, room: Tensor, settings: CorrectionSettings, images: int) -> None:
        self.model, self.stream = model, Stream(room, model)
        self._blocks, self._settings, self._images = blocks_of(model), settings, images
        self._target = TARGETS[settings.target]
        self.layers: list[LayerCorrection] = []
        self.blocks: list[BlockCorrection] = []

    def fit_of(self, dense: Block, role: str) -> LayerFit:
        """Begin to fit `"proj"` or `"lin2"` of the block that was cut from a dense one, in this order."""
        cut = self._blocks[dense.index]
        if role == "proj" and self._settings.values and worth_fitting(dense, cut):
            return self._values_fit(cut)
        layer, name = cut.layers[role], cut.layer_names[role]
        equations = NormalEquations(layer, bias=self._settings.bias)

        def add(wanted: Tensor, weights: Tensor | None, batch: Batch) -> None:
            ours = observe(self.model, cut, self.stream.read(cut, batch.rows), role)
            equations.add(ours.inputs, self._target.of(wanted, ours.before), weights, batch.share)

        def solve() -> LayerCorrection:
            solution = equations.solve(self._settings.ridge, name)
            _write(layer, solution, name)
            return LayerCorrection(name, solution.residual_before, solution.residual_after, self._tokens(cut))

        return LayerFit(add, solve)

    def _values_fit(self, cut: Block) -> LayerFit:
        """Fit `proj` together with the values of the block's heads."""
        name, layer = cut.layer_names["proj"], as_one_layer(cut)
        equations = NormalEquations(layer, bias=True)

        def add(wanted: Tensor, weights: Tensor | None, batch: Batch) -> None:
            tokens = self.stream.read(cut, batch.rows)
            pooled = pooled_inputs(self.model, cut, tokens).flatten(3)
            equations.add(pooled, self._target.of(wanted, tokens), weights, batch.share)

        def solve() -> LayerCorrection:
            equations.check(name)
            found, constant = fit_factors(equations, factors_of(cut), self._settings.ridge)
            write_factors(cut, found, constant)
            for role in ("qkv", "proj"):
                _require_finite(cut.layers[role], cut.layer_names[role])
            before, after = (
                equations.residual(torch.cat([weights.T, bias[None]]))
                for weights, bias in (
                    (layer.weight, layer.bias),
                    (torch.cat([f.product for f in found]).T, constant),
                )
            )
            return LayerCorrection(name, before, after, self._tokens(cut))

        return LayerFit(add, solve)

    def fit_block(self, fitter: BlockFitter, dense: Block, theirs: Stream) -> Generator[None, None, None]:
        """Fit all weights of a block, where the streams are the cut one before it and the dense one behind it."""
        cut = self._blocks[dense.index]

        def read(network: str, rows: Sequence[int]) -> Tensor:
            return theirs.read(dense, rows) if network == "dense" else self.stream.read(cut, rows)

        module = self.model.get_submodule(cut.name)
        self.blocks.append((yield from fitter.fit(module, cut.name, dense.layer_names[ADDING_LAYERS[-1]], read)))

    def advance(self, index: int, batches: Sequence[Batch]) -> None:
        """Take the stream from before a block to what the next one reads."""
        cut = self._blocks[index]
        module = self.model.get_submodule(cut.name)
        for batch in batches:
            self.stream.write(batch.rows, passed(cut, module(self.stream.read(cut, batch.rows))))

    def _tokens(self, block: Block) -> int:
        return block.tokens_side**2 * self._images


def _write(layer: nn.Linear, solution: Solution, name: str) -> None:
    """Write a solution in place; the parameters stay the same objects."""
    layer.weight.copy_(solution.weight)
    if solution.bias is not None:
        layer.bias.copy_(solution.bias)
    _require_finite(layer, name)


def _require_finite(layer: nn.Linear, name: str) -> None:
    if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in layer.parameters()]).all()):
        raise StatisticsError(
            f"{name}: the fitted weights are not finite in {layer.weight.dtype}: correct the model in float32, or with "
            "a larger ridge"
        )
