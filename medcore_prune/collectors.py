"""What calibration can collect: how one layer's view of a batch becomes sums over samples.

Each collector names its sums and forms their contribution from a `LayerBatch`. The sums are additive: those of two
sets of samples added are those of the union.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from .layer_gradients import LayerBatch, Pair


@dataclass(frozen=True)
class Collector:
    """One kind of statistics.

    Attributes:
        sums: Loss names to the names of the sums.
        contribute: A batch at one layer to (weight, bias) of each sum, in the order of `sums`.
    """

    sums: Callable[[Sequence[str]], list[str]]
    contribute: Callable[[LayerBatch], Iterator[Pair]]


def _fisher_sums(losses: Sequence[str]) -> list[str]:
    return [f"{first}_{second}" for first, second in combinations_with_replacement(losses, 2)]


def _fisher(batch: LayerBatch) -> Iterator[Pair]:
    """sum_b g_i g_i, and sum_b 2 g_i g_j for i < j: squares of every sample's own gradient (Eq. 10)."""
    for first, second in combinations_with_replacement(batch.per_sample, 2):
        factor = 1 if first is second else 2
        weight, bias = ((one * other).sum(0) for one, other in zip(first, second, strict=True))
        yield weight.mul_(factor), bias.mul_(factor)


def _gradient_sums(losses: Sequence[str]) -> list[str]:
    return list(losses)


def _gradient(batch: LayerBatch) -> Iterator[Pair]:
    """sum_b g_i, whose mean is the gradient of the mean loss."""
    for weight, bias in batch.per_sample:
        yield weight.sum(0), bias.sum(0)


COLLECTORS: dict[str, Collector] = {
    "fisher": Collector(_fisher_sums, _fisher),
    "gradient": Collector(_gradient_sums, _gradient),
}
