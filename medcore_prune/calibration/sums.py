"""Exact per-sample statistics of the prunable layers, in batches (Eq. 10; METHOD section 5).

One forward and one backward pass a loss give every sample's own gradient; what is summed are its squares, so that a
batch of eight gives the same numbers as eight batches of one.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..data.masks import band_radius, boundary_band
from ..defaults import DEFAULTS
from ..models.losses import band_term, plain_loss
from ..models.precision import Precision, autocast, exactly
from ..models.protocol import decode, embed, input_logits, rounds_of, rows_of
from .collector import LOSSES, Collector, check_losses, faults_named, get_collector, is_own, prunable_layers, shapes_of
from .layer_gradients import LayerBatch, Pair, Round, watching

_EXPECTED = "expected it to yield pairs of '<sum>/<name>' and a tensor"


class OwnBatch(LayerBatch):
    """What one layer saw of a batch, for one collector alone: each tensor is copied when it is first read.

    The tensors of the batch are those of the backward pass, and all collectors read them.
    """

    def __init__(self, shared: LayerBatch) -> None:
        self._shared = shared

    @cached_property
    def inputs(self) -> Tensor:
        return self._shared.inputs.clone()

    @cached_property
    def gradients(self) -> tuple[Tensor, ...]:
        return tuple(gradient.clone() for gradient in self._shared.gradients)

    @cached_property
    def per_sample(self) -> list[Pair]:
        return [(weight.clone(), bias.clone()) for weight, bias in self._shared.per_sample]


def own_contributions(
    name: str, collector: Collector, layer_name: str, batch: LayerBatch, sums: Mapping[str, Tensor], has_bias: bool
) -> Iterator[tuple[str, Tensor]]:
    """What a collector of a user's own adds to `sums`, refused in one line with its name where that cannot be added.

    `batch` stays as it is. What is yielded for the bias of a layer without one is let through unseen.
    """
    with faults_named(name):
        contributed = collector.contribute(layer_name, OwnBatch(batch))
        if isinstance(contributed, Mapping) or not isinstance(contributed, Iterable):
            got = "None" if contributed is None else type(contributed).__name__
            raise StatisticsError(f"contribute returned {got} for {layer_name}: {_EXPECTED}")
        for pair in contributed:
            key, value = _pair(pair, layer_name)
            if has_bias or not key.endswith(f"/{layer_name}.bias"):
                _check(key, value, layer_name, batch, sums)
            yield key, value


def _pair(pair: Any, layer_name: str) -> tuple[str, Tensor]:
    if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor):
        return pair[0], pair[1]
    kinds = [type(each).__name__ for each in pair] if isinstance(pair, tuple | list) else [type(pair).__name__]
    raise StatisticsError(f"contribute yielded {', '.join(kinds)} for {layer_name}: {_EXPECTED}")


def _check(key: str, value: Tensor, layer_name: str, batch: LayerBatch, sums: Mapping[str, Tensor]) -> None:
    if key not in sums:
        close = difflib.get_close_matches(key, sums, n=1, cutoff=0.0)
        hint = f", such as {close[0]!r}" if close else ""
        raise StatisticsError(f"contribute yielded {key!r}: expected what its powers and shapes name{hint}")
    total = sums[key]
    if value.shape != total.shape:
        raise StatisticsError(
            f"contribute yielded shape {tuple(value.shape)} for {key}: expected {tuple(total.shape)}, as its shapes say"
        )
    if value.is_complex() or value.device != total.device:
        raise StatisticsError(
            f"contribute yielded {value.dtype} on {value.device} for {key}: expected real numbers on {total.device}"
        )
    # what the model itself makes infinite is no fault of the collector, and named where the sample is
    if not bool(torch.isfinite(value).all()) and _finite(batch):
        raise StatisticsError(f"contribute yielded NaN or infinity for {key} at layer {layer_name}: expected numbers")


def _finite(batch: LayerBatch) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in (batch.inputs, *batch.gradients))


_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda logits, mask, band: plain_loss(logits, mask),
    "band": band_term,
}


class Accumulator:
    """Sums over samples of what the named collectors form, for every prunable layer of one model.

    `losses` ("plain",) takes one backward pass and serves lambda_B = 0 alone, ("plain", "band") takes two and serves
    every lambda_B. The network runs in `precision`, of which `tf32` is set around; sums are exact in any. `sums` has
    collectors' tensors by `<sum>/<name>`, as `Collector.shapes` says, float32, or float64 where the model is; `count`
    the samples summed.
    """

    def __init__(
        self,
        model: nn.Module,
        collectors: Sequence[str] = ("fisher",),
        losses: Sequence[str] = LOSSES,
        band_radius_px: float = DEFAULTS.band_radius_px,
        precision: Precision = "fp32",
        reference: nn.Module | None = None,
    ) -> None:
        check_losses(losses)
        self.model, self.losses = model, tuple(losses)
        self._layers = prunable_layers(model)
        self._band_radius_px, self._precision = band_radius_px, precision
        self._own = frozenset(filter(is_own, collectors))
        self._collectors = {name: self._made(name, reference) for name in collectors}
        self.sums = {name: self._zeros(name) for name in collectors}
        self.count = 0

    def _made(self, name: str, reference: nn.Module | None) -> Collector:
        with faults_named(name):
            return get_collector(name)(self.model, reference)

    def _zeros(self, collector: str) -> dict[str, Tensor]:
        like = next(iter(self._layers.values())).weight
        dtype = torch.promote_types(like.dtype, torch.float32)
        return {
            key: torch.zeros(shape, dtype=dtype, device=like.device)
            for key, shape in shapes_of(collector, self.losses, self.model).items()
        }

    def _consume(self, layer_name: str, batch: LayerBatch) -> None:
        with exactly():
            self._add(layer_name, batch)

    def _add(self, layer_name: str, batch: LayerBatch) -> None:
        has_bias = self._layers[layer_name].bias is not None
        for name, collector in self._collectors.items():
            sums = self.sums[name]
            contributed = (
                own_contributions(name, collector, layer_name, batch, sums, has_bias)
                if name in self._own
                else collector.contribute(layer_name, batch)
            )
            for key, value in contributed:
                # every layer is looked at as if it had a bias
                if has_bias or not key.endswith(f"/{layer_name}.bias"):
                    sums[key].add_(value)

    def add(
        self,
        images: Tensor,
        boxes: Tensor,
        masks: Tensor,
        names: Sequence[str] | None = None,
        owner: Sequence[int] | None = None,
    ) -> None:
        """Add samples: images (N, 3, S, S) as `protocol.batch_of` makes them, boxes (B, 4) in their pixels, masks
        (B, 1, S, S) of 0 and 1, and the image of each, its place among the N; None for one sample an image.

        The encoder runs forward once an image, and backward for every sample. Errors call the samples by `names`; after
        one the sums are of no use.
        """
        names = names or [f"sample {self.count + index}" for index in range(len(boxes))]
        owner = range(len(images)) if owner is None else owner
        rounds = rounds_of(owner)
        with watching(self.model, self._layers, self._consume) as watch:
            with autocast(self._precision, images.device):
                embeddings = embed(self.model, images)
            for chosen in rounds:
                rows = [owner[place] for place in chosen]
                prompts = (rows_of(each, chosen) for each in (boxes, masks))
                # without a name, so that the decoder's part of the graph goes with its round
                watch.backward(
                    self._losses_of(rows_of(embeddings, rows), *prompts),
                    [names[place] for place in chosen],
                    Round(len(images), rows, last=chosen is rounds[-1]),
                )
        self.count += len(boxes)

    def _losses_of(self, embeddings: Tensor, boxes: Tensor, masks: Tensor) -> list[Tensor]:
        """Each loss of samples, (B,), from their images' embeddings."""
        size = masks.shape[-1]
        with autocast(self._precision, masks.device):
            low_res = decode(self.model, embeddings, boxes)
        logits = input_logits(low_res.to(torch.promote_types(low_res.dtype, torch.float32)), size)
        masks = masks.float()
        band = boundary_band(masks, band_radius(size, self._band_radius_px))
        return [_LOSSES[name](logits, masks, band) for name in self.losses]
