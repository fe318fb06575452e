"""How scores of several data sets become one (Eq. 13).

    S(g) = sum_k w_k S_k(g) + beta * std_k(S_k(g)),   sum_k w_k = 1

Each S_k is first divided by its mean over all units of its family (METHOD section 6), so that a data set with a large
loss does not drown the others. `pooled` is the plain alternative: all samples of all data sets are one population,
with one Fisher and one score.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .._support.errors import CriterionError, require_known
from ..defaults import DEFAULTS
from ..models.groups import FAMILY_NAMES, StructuredGroup

Aggregation = Literal["pooled", "mean_std"]


@dataclass(frozen=True)
class Population:
    """Data sets that are scored as one, by their shares, which sum to 1; `weight` is w_k of Eq. 13."""

    shares: Mapping[str, float]
    weight: float


def populations(
    counts: Mapping[str, int], aggregation: Aggregation, weights: Mapping[str, float] | None = None
) -> list[Population]:
    """Divide data sets into populations, each of which is scored on its own; w_k is read by `"mean_std"` alone.

    `counts` are calibration samples of each data set; `weights` are at least 0, scaled to sum to 1; None is equal ones.
    """
    if not counts:
        raise CriterionError("the statistics hold no data set: calibrate on at least one")
    return _DIVISIONS[aggregation](counts, weights)


def _pooled(counts: Mapping[str, int], weights: Mapping[str, float] | None) -> list[Population]:
    if weights is not None:
        raise CriterionError("data set weights apply to aggregation 'mean_std': 'pooled' weighs every sample alike")
    total = sum(counts.values())
    return [Population({name: count / total for name, count in counts.items()}, 1.0)]


def _one_each(counts: Mapping[str, int], weights: Mapping[str, float] | None) -> list[Population]:
    chosen = dict.fromkeys(counts, 1.0) if weights is None else {name: float(w) for name, w in weights.items()}
    if set(chosen) != set(counts):
        raise CriterionError(
            f"data set weights name {', '.join(sorted(chosen)) or 'nothing'}: expected {', '.join(sorted(counts))}"
        )
    total = math.fsum(chosen.values())
    if not all(math.isfinite(w) and w >= 0 for w in chosen.values()) or total <= 0:
        raise CriterionError(f"data set weights are {chosen}: expected finite numbers of at least 0, not all 0")
    return [Population({name: 1.0}, chosen[name] / total) for name in counts]


_DIVISIONS = {"pooled": _pooled, "mean_std": _one_each}


def family_normalised(groups: Sequence[StructuredGroup], scores: Sequence[Tensor]) -> list[Tensor]:
    """Divide (n_units,) scores by their mean magnitude over all units of the same family; a family of zeros stays zero.

    The magnitude, because exact interventions may be negative; where all scores are non-negative it is the mean.
    """
    means: dict[str, float] = {}
    for family in FAMILY_NAMES:
        units = [values for group, values in zip(groups, scores, strict=True) if group.family == family]
        means[family] = float(torch.cat(units).abs().mean()) if units else 0.0
    return [
        values / means[group.family] if means[group.family] > 0 else torch.zeros_like(values)
        for group, values in zip(groups, scores, strict=True)
    ]


@dataclass(frozen=True)
class Aggregator:
    """Joins the scores of data sets into one score a unit (Eq. 13).

    `beta`, at least 0, weighs the population standard deviation over data sets; `weights` has w_k, as for
    `populations`.
    """

    aggregation: Aggregation = "mean_std"
    beta: float = DEFAULTS.beta
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        require_known("aggregation", self.aggregation, _DIVISIONS, CriterionError)
        if not isinstance(self.beta, Real) or not (math.isfinite(self.beta) and self.beta >= 0):
            raise CriterionError(f"beta is {self.beta!r}: expected a finite number of at least 0")

    def score(
        self,
        groups: Sequence[StructuredGroup],
        counts: Mapping[str, int],
        score: Callable[[Population], Sequence[Tensor]],
    ) -> list[Tensor]:
        """Score each population, divide by the family means, and join; `score` gives one (n_units,) tensor a group."""
        parts = populations(counts, self.aggregation, self.weights)
        scores = [family_normalised(groups, score(population)) for population in parts]
        weights = torch.tensor([population.weight for population in parts], dtype=torch.float64)
        stacks = [torch.stack(of_group) for of_group in zip(*scores, strict=True)]
        return [weights.to(stack.device) @ stack + self.beta * stack.std(0, correction=0) for stack in stacks]


Alpha = float | Sequence[float] | Literal["balanced"]


def checked_alpha(alpha: Alpha) -> float | tuple[float, ...] | Literal["balanced"]:
    """Return alpha as it is meant: `"balanced"`, a float, or a tuple of floats, one a block, all in [0, 1]."""
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

    Both are (n_units,) of one block, family and data set. Means are of magnitudes: exact interventions may be negative.
    """
    of_reset = float(reset.abs().mean())
    return of_reset / (float(zero.abs().mean()) + of_reset) if of_reset > 0 else 1.0


def weighed(
    alpha: Alpha, groups: Sequence[StructuredGroup], zero: Sequence[Tensor], reset: Sequence[Tensor]
) -> list[Tensor]:
    """Weigh both terms of every group: alpha_b I_zero(g) + (1 - alpha_b) I_reset(g) (Eq. 7), alpha being checked."""
    scores = []
    for group, of_zero, of_reset in zip(groups, zero, reset, strict=True):
        share = _share(alpha, group, of_zero, of_reset)
        scores.append(share * of_zero + (1 - share) * of_reset)
    return scores


def _share(alpha: Alpha, group: StructuredGroup, zero: Tensor, reset: Tensor) -> float:
    if isinstance(alpha, str):
        return balanced_alpha(zero, reset)
    if isinstance(alpha, int | float):
        return float(alpha)
    if group.block >= len(alpha):
        raise CriterionError(f"alpha has {len(alpha)} numbers, but there is a block {group.block}: give one a block")
    return alpha[group.block]
