"""Least-squares residual: what a layer's output loses with a unit once the other units are re-fitted."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..aggregation import Aggregation, Aggregator, Population
from ..criterion import Criterion, Need
from ..criterion_registry import register_criterion
from ..defaults import DEFAULTS
from ..elementwise import parameters
from ..errors import CriterionError
from ..groups import StructuredGroup
from ..unit_statistics import gram

if TYPE_CHECKING:
    from ..statistics import Statistics


def damped(matrix: Tensor, ridge: float) -> Tensor:
    """H = G + r I with r = `ridge` times the mean of G's diagonal, so that the inverse exists; (in, in)."""
    mean = float(matrix.diagonal().mean())
    # inputs that are zero on every image: with any positive number the others, zero too, replace them as well
    return matrix + (ridge * mean if mean > 0 else 1.0) * torch.eye(len(matrix), dtype=matrix.dtype)


def residual_rise(weight: Tensor, inverse: Tensor, members: Tensor) -> Tensor:
    """Rise of the damped residual when each unit's columns go and all others are re-fitted.

    The layer computes Y = X W^T; V replaces W at a cost of |X V^T - X W^T|^2 + r |V - W|^2 = tr((V - W) H (V - W)^T),
    which is what the correction after a cut minimises. Under V_S = 0 its minimum is at

        V = W - W_S [(H^-1)_SS]^-1 (H^-1)_S,:        rho(S) = tr(W_S [(H^-1)_SS]^-1 W_S^T)

    (Lagrange multipliers; Hassibi and Stork's optimal brain surgeon for one weight, their factor 1/2 apart.)

    Args:
        weight: W, (out, in).
        inverse: H^-1, (in, in).
        members: (n_units, k) columns of each unit, its S.

    Returns:
        (n_units,), non-negative.
    """
    blocks = inverse[members[:, :, None], members[:, None, :]]
    columns = weight[:, members].permute(1, 2, 0)
    return torch.einsum("uko,uko->u", columns, torch.linalg.solve(blocks, columns))


def all_at_once(weight: Tensor, matrix: Tensor, members: Tensor) -> Tensor:
    """`residual_rise` of each unit while all others stay; (out, in), H (in, in), (n_units, k) to (n_units,)."""
    return residual_rise(weight, torch.linalg.inv(matrix), members)


def one_after_another(weight: Tensor, matrix: Tensor, members: Tensor) -> Tensor:
    """Take units out one by one, always the one that raises the residual least, with the others re-fitted each time.

    Two units that do the same stand in for each other: all at once both are cheap, here the second one is not.

    Args:
        weight: W, (out, in).
        matrix: H, (in, in), positive definite.
        members: (n_units, k) columns of each unit.

    Returns:
        (n_units,) residual that has gathered when each unit goes: ascending in the order of their going.
    """
    weight, inverse = weight.clone(), torch.linalg.inv(matrix)
    left, gathered = torch.arange(len(members)), 0.0
    scores = torch.zeros(len(members), dtype=weight.dtype)
    while len(left):
        rises = residual_rise(weight, inverse, members[left])
        least = int(rises.argmin())
        gathered += float(rises[least])
        scores[left[least]] = gathered
        own = members[left[least]]
        left = torch.cat([left[:least], left[least + 1 :]])
        # block elimination: what is left of H^-1 becomes the inverse of what is left of H
        rows = torch.linalg.solve(inverse[own][:, own], inverse[own])
        weight -= weight[:, own] @ rows
        inverse -= inverse[:, own] @ rows
    return scores


ORDERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "all_at_once": all_at_once,
    "one_after_another": one_after_another,
}
TOKENS: dict[str, tuple[Need, str]] = {
    "alike": (Need.GRAM, "gram"),
    "by_gradient": (Need.WEIGHTED_GRAM, "weighted_gram"),
}


@register_criterion("residual", source="Hassibi and Stork 1993, Second order derivatives for network pruning (NIPS 5)")
class Residual(Criterion):
    """Rise of the least-squares residual of a layer's output when a unit goes and the others are re-fitted.

    rho_k(S) = tr(W_S [(H_k^-1)_SS]^-1 W_S^T),  H_k = G_k + r I, with G_k = X'X of the inputs of `proj` or `lin2` over
    the images of data set k, window padding left out; then mean and deviation over data sets (Eq. 13). What is scored
    is what stays lost after `medcore_prune.correct`; no label and no gradient is read unless tokens are weighed.

    Args:
        statistics: With `Need.GRAM`, or `Need.WEIGHTED_GRAM` for tokens `"by_gradient"`.
        ridge: r in shares of the mean diagonal of G, above 0; `correct` has the same.
        order: `"all_at_once"` scores each unit beside all others; `"one_after_another"` takes them out in turn.
        tokens: `"alike"`, or `"by_gradient"` to weigh each by the squared gradient of the layer's output.
        lambda_b: Weight of the boundary band in the loss whose gradient weighs the tokens.
        aggregation: `"mean_std"` over data sets, or `"pooled"`.
        beta: Weight of the deviation over data sets.
        weights: w_k of each data set; None for equal ones.

    Raises:
        CriterionError: A setting out of range.
    """

    needs = frozenset({Need.GRAM})
    cost = "calibration"

    def __init__(
        self,
        statistics: "Statistics",
        ridge: float = 1e-3,
        order: str = "all_at_once",
        tokens: str = "alike",
        lambda_b: float = DEFAULTS.lambda_b,
        aggregation: Aggregation = "mean_std",
        beta: float = DEFAULTS.beta,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        for what, value, known in (("order", order, ORDERS), ("tokens", tokens, TOKENS)):
            if value not in known:
                raise CriterionError(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
        if not 0 < ridge < float("inf"):
            raise CriterionError(f"ridge is {ridge!r}: expected a finite number above 0")
        self.needs = self.needs_for(tokens=tokens)
        self.statistics = statistics
        self.ridge = ridge
        self.order = order
        self.tokens = tokens
        self.lambda_b = lambda_b
        self.aggregator = Aggregator(aggregation, beta, weights)

    @classmethod
    def needs_for(cls, **settings: Any) -> frozenset[Need]:
        return frozenset({TOKENS[settings.get("tokens", "alike")][0]})

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        return self.aggregator.score(groups, self.statistics.counts, partial(self._of_population, groups))

    def _of_population(self, groups: Sequence[StructuredGroup], population: Population) -> list[Tensor]:
        return [self._of_group(group, population) for group in groups]

    def _of_group(self, group: StructuredGroup, population: Population) -> Tensor:
        found = gram(self.statistics, population, group, TOKENS[self.tokens][1], self.lambda_b)
        weight, _ = parameters(group.layer_out)
        return ORDERS[self.order](weight, damped(found, self.ridge), group.out_cols)
