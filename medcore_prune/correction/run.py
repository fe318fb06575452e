"""The work of a correction: residual streams of both networks carried block by block, one layer fitted at a time."""

from collections.abc import Generator, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError, SurgeryError
from .._support.progress import track
from ..models.families import blocks_of
from ..models.family import Block
from .block_fit import BlockFitter
from .head_values import as_one_layer, factors_of, fit_factors, pooled_inputs, worth_fitting, write_factors
from .images import Batch, CorrectionImages
from .least_squares import NormalEquations, Solution
from .settings import TARGETS, BlockCorrection, CorrectionSettings, LayerCorrection
from .streams import ADDING_LAYERS, Added, Observed, Shapes, check_streams, first_tokens, observe, passed


def state_shapes(teacher: nn.Module, images: int) -> Shapes:
    """Return shape and dtype of the room for the two residual streams that are carried, at least float32.

    An image's tokens lie in a row of it, wherever in the encoder they are: it is as long as they are at most.
    """
    shape = (images, max(block.tokens_side**2 * block.width for block in blocks_of(teacher)))
    dtype = torch.promote_types(next(teacher.parameters()).dtype, torch.float32)
    return {"dense": (shape, dtype), "cut": (shape, dtype)}


class CorrectionRun:
    """Carries both networks' streams, in room for `state_shapes`, from block to block and fits the cut one's layers.

    Weights are written as they are fitted; `layers` and `blocks` say what came of it.
    """

    def __init__(
        self,
        small: nn.Module,
        teacher: nn.Module,
        images: CorrectionImages,
        states: Mapping[str, Tensor],
        settings: CorrectionSettings,
        fitter: BlockFitter | None = None,
    ) -> None:
        self._models = {"dense": teacher, "cut": small}
        self._blocks = {name: blocks_of(model) for name, model in self._models.items()}
        self._images, self._states, self._settings = images, states, settings
        self._fitter = fitter
        self.layers: list[LayerCorrection] = []
        self.blocks: list[BlockCorrection] = []

    def run(self, progress: bool) -> None:
        """Fit block after block."""
        pairs = list(zip(self._blocks["dense"], self._blocks["cut"], strict=True))
        each = len(ADDING_LAYERS) + (self._settings.fit_steps if self._fitter else 0)
        for _ in track(self._work(pairs), "correction", total=len(pairs) * each, show=progress):
            pass

    def _work(self, pairs: Sequence[tuple[Block, Block]]) -> Iterator[None]:
        """Yield after each layer and each step."""
        for dense, cut in pairs:
            for role in ADDING_LAYERS:
                self.layers.append(self._fit(dense, cut, role))
                yield
            if self._fitter:
                self.blocks.append((yield from self._fit_block(self._fitter, dense, cut)))
            self._advance(dense, cut)

    def read_images(self, progress: bool) -> None:
        """Bring both networks to their first block, which must read (B, h, w, D), and weigh the tokens."""
        batches = self._images.batches
        for batch in track(batches, "reading images", total=len(batches), show=progress):
            images, boxes, owner = self._images.read(batch)
            for name, model in self._models.items():
                tokens, first = first_tokens(model, images), self._blocks[name][0]
                wanted = (len(images), first.tokens_side, first.tokens_side, first.width)
                if tokens.shape != wanted:
                    raise SurgeryError(
                        f"the blocks of {type(model).__name__} read tokens in a row, {_shown(tokens.shape)}: expected "
                        f"a square of patches without class tokens, {_shown(wanted)}; leave out the correction"
                    )
                self._write(name, batch, tokens)
            if batch is batches[0]:
                check_streams(self._models["dense"], images[:1])
            self._images.weigh(batch, images, boxes, owner)

    def _fit(self, dense: Block, cut: Block, role: str) -> LayerCorrection:
        """Fit `"proj"` or `"lin2"` of a block, in this order; the last one leaves the dense stream behind the block."""
        if role == "proj" and self._settings.values and worth_fitting(dense, cut):
            return self._fit_values(dense, cut)
        layer, name = cut.layers[role], cut.layer_names[role]
        equations = NormalEquations(layer, bias=self._settings.bias)
        last = role == "lin2"
        for batch in self._images.batches:
            theirs = self._wanted(dense, batch, role)
            ours = self._observe("cut", cut, batch, role)
            target = TARGETS[self._settings.target](theirs, ours)
            equations.add(ours.inputs, target, self._weights(batch, dense.layer_names[role]), batch.share)
            if last:
                self._write("dense", batch, theirs.after)
        solution = equations.solve(self._settings.ridge, name)
        _write(layer, solution, name)
        return LayerCorrection(name, solution.residual_before, solution.residual_after, self._tokens(cut))

    def _fit_values(self, dense: Block, cut: Block) -> LayerCorrection:
        """Fit `proj` together with the values of the block's heads."""
        name, layer = cut.layer_names["proj"], as_one_layer(cut)
        equations = NormalEquations(layer, bias=True)
        for batch in self._images.batches:
            theirs = self._wanted(dense, batch, "proj")
            ours = self._observe("cut", cut, batch, "proj")
            pooled = pooled_inputs(self._models["cut"], cut, self._entering("cut", cut, batch.rows)).flatten(3)
            target = TARGETS[self._settings.target](theirs, ours)
            equations.add(pooled, target, self._weights(batch, dense.layer_names["proj"]), batch.share)
        equations.check(name)
        found, constant = fit_factors(equations, factors_of(cut), self._settings.ridge)
        write_factors(cut, found, constant)
        for role in ("qkv", "proj"):
            _require_finite(cut.layers[role], cut.layer_names[role])
        before, after = (
            equations.residual(torch.cat([weights.T, bias[None]]))
            for weights, bias in ((layer.weight, layer.bias), (torch.cat([f.product for f in found]).T, constant))
        )
        return LayerCorrection(name, before, after, self._tokens(cut))

    def _fit_block(self, fitter: BlockFitter, dense: Block, cut: Block) -> Generator[None, None, BlockCorrection]:
        """Fit all weights of a block, where the streams are the cut one before it and the dense one behind it."""
        blocks = {"dense": dense, "cut": cut}

        def read(network: str, rows: Sequence[int]) -> Tensor:
            return self._entering(network, blocks[network], rows)

        module = self._models["cut"].get_submodule(cut.name)
        return (yield from fitter.fit(module, cut.name, dense.layer_names[ADDING_LAYERS[-1]], read))

    def stream_error(self) -> float:
        """Relative distance of the cut network's stream from the dense one's, over all images."""
        error = norm = 0.0
        last = self._blocks["dense"][-1]
        size = last.tokens_side**2 * last.width
        for batch in self._images.batches:
            dense, cut = (self._states[name][batch.rows, :size].double() for name in ("dense", "cut"))
            counts = torch.tensor(self._images.samples_of[batch.rows], dtype=torch.float64)
            error += float((dense - cut).square().sum(1) @ counts)
            norm += float(dense.square().sum(1) @ counts)
        return (error / max(norm, 1e-300)) ** 0.5

    def _tokens(self, block: Block) -> int:
        return block.tokens_side**2 * sum(self._images.counts.values())

    def _entering(self, network: str, block: Block, rows: slice | Sequence[int]) -> Tensor:
        parameter = next(self._models[network].parameters())
        shape = (-1, block.tokens_side, block.tokens_side, block.width)
        tokens = self._states[network][rows, : block.tokens_side**2 * block.width]
        return tokens.to(parameter.device, parameter.dtype).reshape(shape)

    def _write(self, network: str, batch: Batch, tokens: Tensor) -> None:
        flat = tokens.flatten(1)
        self._states[network][batch.rows, : flat.shape[1]] = flat.to("cpu")

    def _weights(self, batch: Batch, layer_name: str) -> Tensor | None:
        weights = self._images.weights(batch).get(layer_name)
        return None if weights is None else weights.to(next(self._models["cut"].parameters()).device)

    def _observe(self, network: str, block: Block, batch: Batch, role: str) -> Observed:
        return observe(self._models[network], block, self._entering(network, block, batch.rows), role)

    def _wanted(self, dense: Block, batch: Batch, role: str) -> Added:
        name = dense.layer_names[role]
        return self._images.added(batch, name, lambda: self._observe("dense", dense, batch, role).added)

    def _advance(self, dense: Block, cut: Block) -> None:
        """Take both streams to what the next block reads."""
        module = self._models["cut"].get_submodule(cut.name)
        for batch in self._images.batches:
            self._write("cut", batch, passed(cut, module(self._entering("cut", cut, batch.rows))))
            if dense.then is not None:
                self._write("dense", batch, passed(dense, self._entering("dense", dense, batch.rows)))


def _shown(shape: Sequence[int]) -> str:
    return f"({', '.join(['B', *map(str, shape[1:])])})"


def _write(layer: nn.Linear, solution: Solution, name: str) -> None:
    """Write a solution in place; the parameters stay the same objects."""
    layer.weight.copy_(solution.weight)
    if solution.bias is not None:
        layer.bias.copy_(solution.bias)
    _require_finite(layer, name)


def _require_finite(layer: nn.Linear, name: str) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in layer.parameters()):
        raise StatisticsError(
            f"{name}: the fitted weights are not finite in {layer.weight.dtype}: correct the model in float32, or with "
            "a larger ridge"
        )
