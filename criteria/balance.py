"""How much the zero and the reset intervention count in a block: alpha of Eq. 7."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from .._support.errors import CriterionError
from ..models.groups import StructuredGroup

Alpha = float | Sequence[float] | Literal["balanced"]


def checked_alpha(alpha: Alpha) -> float | tuple[float, ...] | Literal["balanced"]:
    """Return alpha as it is meant: `"balanced"`, a float, or a tuple of floats, one a block.

    Raises:
        CriterionError: Something else, or a number outside of [0, 1].
    """
    if isinstance(alpha, str) and alpha == "balanced":
        return "balanced"
    try:
        # numpy's and torch's numbers are numbers too
        numbers = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim > 1 or not numbers.size or not bool(np.all((numbers >= 0) & (numbers <= 1))):
        raise CriterionError(f"alpha is {alpha!r}: expected a number in [0, 1], one a block, or 'balanced'")
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)


def balanced_alpha(zero: Tensor, reset: Tensor) -> float:
    """The share of the zero term at which both terms weigh the same on average (METHOD section 4).

        alpha = mean(I_reset) / (mean(I_zero) + mean(I_reset)),   1 where the reset term is zero everywhere

    Args:
        zero, reset: (n_units,) of one block, family and data set. Means are of magnitudes: exact interventions may be
            negative.
    """
    of_reset = float(reset.abs().mean())
    return of_reset / (float(zero.abs().mean()) + of_reset) if of_reset > 0 else 1.0


def alpha_of(
    alpha: float | tuple[float, ...] | Literal["balanced"], group: StructuredGroup, zero: Tensor, reset: Tensor
) -> float:
    """Return alpha for one group, from a checked setting and the group's two terms.

    Raises:
        CriterionError: One number a block was given, and this block has none.
    """
    if alpha == "balanced":
        return balanced_alpha(zero, reset)
    if isinstance(alpha, tuple):
        if group.block >= len(alpha):
            raise CriterionError(
                f"alpha has {len(alpha)} numbers, but there is a block {group.block}: give one a block"
            )
        return alpha[group.block]
    return float(alpha)
