"""What a collector of a user's own is handed and what is taken from it, so that no fault of it reaches other sums."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ._support.errors import StatisticsError
from .collector import Collector
from .collector_registry import faults_named
from .layer_gradients import LayerBatch, Pair

_EXPECTED = "expected it to yield pairs of '<sum>/<name>' and a tensor"


class OwnBatch(LayerBatch):
    """What one layer saw of a batch, for one collector alone: each tensor is copied when it is first read.

    The tensors of the batch are those of the backward pass, and all collectors read them.

    Args:
        shared: What is copied.
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
    """What a collector of a user's own adds, checked; `batch` stays as it is.

    Args:
        name: As registered.
        collector: What contributes.
        layer_name: Qualified name of the layer.
        batch: Its view of a batch.
        sums: What is added to, by `<sum>/<name>`.
        has_bias: Whether the layer has a bias; without, what is yielded for one is let through as it is.

    Yields:
        Key and value of each sum.

    Raises:
        StatisticsError: It raises, or yields what cannot be added; one line with its name.
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
