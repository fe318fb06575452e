"""The work of a correction: residual streams of both networks carried block by block, one layer fitted at a time."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention_values import (
    as_one_layer,
    factors_of,
    fit_factors,
    pooled_inputs,
    worth_fitting,
    write_factors,
)
from .correction_report import TARGETS, CorrectionSettings, LayerCorrection
from .data.types import SampleSet
from .encoders import Block, geometry_of
from .errors import StatisticsError
from .hidden_states import Observed, Shapes, first_tokens, observe
from .least_squares import NormalEquations, Solution
from .progress import track
from .protocol import batch_of
from .token_weights import WEIGHTINGS, TokenWeights


@dataclass(frozen=True)
class _Batch:
    """Images of one data set.

    Attributes:
        dataset: Its name.
        read: Positions in the data set.
        rows: Positions among all images.
        share: Weight of each token, so that all of a data set's tokens sum to 1 / (number of data sets).
    """

    dataset: str
    read: range
    rows: slice
    share: float


def _batches(drawn: Mapping[str, SampleSet], batch_size: int, tokens: int) -> list[_Batch]:
    batches: list[_Batch] = []
    offset = 0
    for name, samples in drawn.items():
        share = 1.0 / (len(drawn) * len(samples) * tokens)
        for start in range(0, len(samples), batch_size):
            read = range(start, min(start + batch_size, len(samples)))
            batches.append(_Batch(name, read, slice(offset + read.start, offset + read.stop), share))
        offset += len(samples)
    return batches


def state_shapes(teacher: nn.Module, images: int) -> Shapes:
    """Return shape and dtype of the two residual streams that are carried, at least float32."""
    geometry = geometry_of(teacher)
    shape = (images, geometry.tokens_side, geometry.tokens_side, geometry.embed_dim)
    dtype = torch.promote_types(next(teacher.parameters()).dtype, torch.float32)
    return {"dense": (shape, dtype), "cut": (shape, dtype)}


class CorrectionRun:
    """Carries both networks' streams from block to block and fits the layers of the cut one.

    Args:
        small: The cut network; weights of its layers are written as they are fitted.
        teacher: The dense one.
        drawn: Images by data set.
        states: Room for `state_shapes`.
        settings: How layers are fitted.
        batch_size: Images at a time.
    """

    def __init__(
        self,
        small: nn.Module,
        teacher: nn.Module,
        drawn: Mapping[str, SampleSet],
        states: Mapping[str, Tensor],
        settings: CorrectionSettings,
        batch_size: int,
    ) -> None:
        self._models = {"dense": teacher, "cut": small}
        self._drawn, self._states, self._settings = drawn, states, settings
        self._tokens = geometry_of(teacher).tokens_side ** 2
        self._batches = _batches(drawn, batch_size, self._tokens)
        self._weights: list[TokenWeights] = []

    @property
    def tokens(self) -> int:
        """Tokens of all images."""
        return self._tokens * sum(len(batch.read) for batch in self._batches)

    def read_images(self, progress: bool) -> None:
        """Bring both networks to their first block, and weigh the tokens.

        Raises:
            DataError: An image that cannot be used.
        """
        weigh = WEIGHTINGS[self._settings.weighting]
        teacher = self._models["dense"]
        parameter = next(teacher.parameters())
        for batch in track(self._batches, "reading images", total=len(self._batches), show=progress):
            samples = [self._drawn[batch.dataset][index] for index in batch.read]
            pairs = [(sample.image, sample.box) for sample in samples]
            images, boxes = batch_of(pairs, geometry_of(teacher).image_size, parameter.device)
            images = images.to(parameter.dtype)
            for name, model in self._models.items():
                self._states[name][batch.rows] = first_tokens(model, images).to("cpu")
            weights = weigh(teacher, images, boxes)
            self._weights.append({name: value.to("cpu") for name, value in weights.items()})

    def fit(self, dense: Block, cut: Block, role: str) -> LayerCorrection:
        """Fit one layer; behind the last one of a block both streams move on.

        Args:
            dense, cut: The same block of both networks.
            role: `"proj"` or `"lin2"`, in this order.

        Raises:
            StatisticsError: Values that are not finite, or equations without a solution.
        """
        if role == "proj" and self._settings.values and worth_fitting(dense, cut):
            return self._fit_values(dense, cut)
        layer, name = cut.layers[role], cut.layer_names[role]
        equations = NormalEquations(layer, bias=self._settings.bias)
        last = role == "lin2"
        for batch, weights in zip(self._batches, self._weights, strict=True):
            theirs = self._observe("dense", dense, batch, role)
            ours = self._observe("cut", cut, batch, role)
            target = TARGETS[self._settings.target](theirs, ours)
            equations.add(ours.inputs, target, _on(weights.get(dense.layer_names[role]), target), batch.share)
            if last:
                self._states["dense"][batch.rows] = theirs.after.to("cpu")
        solution = equations.solve(self._settings.ridge, name)
        _write(layer, solution, name)
        if last:
            self._advance(cut)
        return LayerCorrection(name, solution.residual_before, solution.residual_after, self.tokens)

    def _fit_values(self, dense: Block, cut: Block) -> LayerCorrection:
        """Fit `proj` together with the values of the block's heads."""
        name, layer = cut.layer_names["proj"], as_one_layer(cut)
        equations = NormalEquations(layer, bias=True)
        for batch, weights in zip(self._batches, self._weights, strict=True):
            theirs = self._observe("dense", dense, batch, "proj")
            ours = self._observe("cut", cut, batch, "proj")
            pooled = pooled_inputs(self._models["cut"], cut, self._entering("cut", batch)).flatten(3)
            target = TARGETS[self._settings.target](theirs, ours)
            equations.add(pooled, target, _on(weights.get(dense.layer_names["proj"]), target), batch.share)
        equations.check(name)
        found, constant = fit_factors(equations, factors_of(cut), self._settings.ridge)
        write_factors(cut, found, constant)
        for role in ("qkv", "proj"):
            _require_finite(cut.layers[role], cut.layer_names[role])
        before, after = (
            equations.residual(torch.cat([weights.T, bias[None]]))
            for weights, bias in ((layer.weight, layer.bias), (torch.cat([f.product for f in found]).T, constant))
        )
        return LayerCorrection(name, before, after, self.tokens)

    def stream_error(self) -> float:
        """Relative distance of the cut network's stream from the dense one's, over all images."""
        error = norm = 0.0
        for batch in self._batches:
            dense, cut = (self._states[name][batch.rows].double() for name in ("dense", "cut"))
            error += float((dense - cut).square().sum())
            norm += float(dense.square().sum())
        return (error / max(norm, 1e-300)) ** 0.5

    def _entering(self, network: str, batch: _Batch) -> Tensor:
        parameter = next(self._models[network].parameters())
        return self._states[network][batch.rows].to(parameter.device, parameter.dtype)

    def _observe(self, network: str, block: Block, batch: _Batch, role: str) -> Observed:
        return observe(self._models[network], block, self._entering(network, batch), role)

    def _advance(self, cut: Block) -> None:
        module = self._models["cut"].get_submodule(cut.name)
        for batch in self._batches:
            self._states["cut"][batch.rows] = module(self._entering("cut", batch)).to("cpu")


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


def _on(weights: Tensor | None, like: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(like.device)
