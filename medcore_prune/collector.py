"""The contract of what calibration can collect: how each layer's view of a batch becomes sums over samples.

Sums are additive: those of two sets of samples added are those of the union. A collector says what its tensors are
called and how large they are; they may be shaped like a layer's weight, one number a unit, or anything else.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import ClassVar

from torch import Tensor, nn

from ._support.errors import StatisticsError
from .layer_gradients import LayerBatch

LOSSES = ("plain", "band")
"""The two parts of Eq. 9, in the order in which collectors get their gradients."""

LINEAR: Mapping[str, int] = {"plain": 0, "band": 1}
"""Sums of what is linear in the gradient, with the power of lambda_B that each is multiplied by."""

SQUARES: Mapping[str, int] = {"plain_plain": 0, "plain_band": 1, "band_band": 2}
"""Likewise of what is quadratic: (g0 + lambda_B g1)^2 = g0^2 + lambda_B 2 g0 g1 + lambda_B^2 g1^2."""

CONSTANT: Mapping[str, int] = {"total": 0}
"""Likewise of what does not depend on the loss."""


class Collector(ABC):
    """One kind of statistics, collected of one model; a new object for each run.

    Args:
        model: Whose layers are watched.
        reference: The checkpoint that it was fine-tuned from, where `reads_reference`.

    Attributes:
        powers: Names of the sums, and the power of lambda_B that each is multiplied by when they are added up.
        reads_reference: Whether the sums depend on the reference's weights.

    Raises:
        StatisticsError: The reference is needed and absent.
    """

    powers: ClassVar[Mapping[str, int]]
    reads_reference: ClassVar[bool] = False

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        if self.reads_reference and reference is None:
            raise StatisticsError(f"{type(self).__name__} takes a reference model: give reference=")

    @classmethod
    def sums(cls, losses: Sequence[str]) -> list[str]:
        """Names of the sums that these losses allow: without the band, those that lambda_B = 0 needs."""
        return [name for name, power in cls.powers.items() if not power or LOSSES[1] in losses]

    @classmethod
    @abstractmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that one sum holds, by name; names begin with a layer's and a dot."""

    @abstractmethod
    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        """What one layer's view of a batch adds.

        Args:
            layer_name: Qualified name; each prunable layer comes once a batch, deepest first.
            batch: Inputs, and output gradients of each loss; copies for a collector that is not built in, to change at
                will.

        Yields:
            `<sum>/<name>` and what is added to it, of the shape that `shapes` says, real and finite.
        """


def squares(values: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Sum products of two losses' quantities over samples, with both orders of a mixed product in one.

        sum_b v_i[b] v_i[b],   sum_b 2 v_i[b] v_j[b] for i < j

    Args:
        values: (B, ...) of each loss, in the order of `LOSSES`.

    Yields:
        Name in `SQUARES` and the sum (...).
    """
    for (i, first), (j, second) in combinations_with_replacement(list(enumerate(values)), 2):
        yield f"{LOSSES[i]}_{LOSSES[j]}", (first * second).sum(0).mul_(1 if i == j else 2)


def check_losses(losses: Sequence[str]) -> None:
    """Refuse losses that nothing is collected for.

    Raises:
        StatisticsError: Anything but the plain loss alone, or both parts in the order of `LOSSES`.
    """
    if tuple(losses) not in (LOSSES, LOSSES[:1]):
        raise StatisticsError(f"losses {tuple(losses)!r}: expected ('plain',) or ('plain', 'band')")


def stored_shapes(collector: type[Collector], losses: Sequence[str], model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that a collector stores of a model under these losses, by key `<sum>/<name>`."""
    shapes = collector.shapes(model)
    return {f"{each}/{name}": shape for each in collector.sums(losses) for name, shape in shapes.items()}
