"""How many units each block gives up: shares by weight, minimal retention, water-filling, saturation."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .._support.errors import BudgetError

_FIRST = 1e12
"""Weight of a block of no sensitivity, relative to the largest other: beside it their shares round to nothing."""


@dataclass(frozen=True)
class Quotas:
    """What each block gives up of one family of units, and how many the level asks for over all of them together."""

    per_block: tuple[int, ...]
    requested: int

    @property
    def removed(self) -> int:
        """Units that go."""
        return sum(self.per_block)

    @property
    def saturated(self) -> bool:
        """Whether every open block is at its minimum and the request is not met."""
        return self.removed < self.requested


def sensitivity_weights(sensitivity: Sequence[float], tau: float) -> list[float]:
    """Turn block sensitivities into quota weights, s_b^-tau (METHOD sections 6 and 7): sensitive blocks give less.

    One positive weight a block, relative to the mean sensitivity; tau 0 gives equal ones. A block of 0, one that adds
    nothing to the residual stream for example, gives all that it can before any other gives a unit (unless tau is 0).
    """
    values = [float(value) for value in sensitivity]
    nothing_known = not any(values)
    for block, value in enumerate(values):
        if not (math.isfinite(value) and value >= 0) or nothing_known:
            raise BudgetError(
                f"the sensitivity of block {block} is {value:g}: expected finite numbers of at least 0, not all "
                "of them 0; calibrate again, or use uniform quotas"
            )
    if not (math.isfinite(tau) and tau >= 0):
        raise BudgetError(f"tau is {tau:g}: expected a finite number of at least 0 (0 gives uniform quotas)")
    if tau == 0:
        return [1.0] * len(values)
    mean = math.fsum(values) / len(values) if values else 1.0
    weights = {value: math.exp(-tau * (math.log(value) - math.log(mean))) for value in values if value > 0}
    return [weights[value] if value > 0 else _FIRST * max(weights.values()) for value in values]


def quotas(
    units: Sequence[int],
    fraction: float,
    *,
    min_keep: Sequence[int],
    protected: Collection[int] = (),
    weights: Sequence[float] | None = None,
    strict: bool = False,
) -> Quotas:
    """Spread round(fraction * all units) over the unprotected blocks (METHOD section 7).

    Quotas follow the weights until a block is at its minimum; what it cannot give goes to the others. Shares are
    rounded half up, and what the sum then has too much or too little is taken or given one unit a block, from block 0
    on. When every open block is at its minimum the count saturates, which the result reports.

    `units` and `min_keep` have a number a block: how many it has, and how many it keeps whatever is asked. `fraction`,
    in [0, 1), is of all units, those of protected blocks included. `weights` are positive, None for equal quotas.
    `strict` refuses a request that saturates and names the largest share that is feasible.
    """
    _check(units, fraction, min_keep, protected, weights)
    total = sum(units)
    # through text: 0.29 means 29 %, not the nearest binary fraction below it
    requested = _half_up(Fraction(str(float(fraction))) * total)
    caps = [
        0 if block in protected else max(0, n - keep)
        for block, (n, keep) in enumerate(zip(units, min_keep, strict=True))
    ]
    feasible = sum(caps)
    if requested > feasible and (strict or not feasible):
        raise BudgetError(
            f"{fraction:.4g} of {total} units asks for {requested}, but only {feasible} can go "
            f"({len(set(protected))} of {len(units)} blocks protected): ask for at most {_floored(feasible, total)}, "
            "or protect fewer blocks"
        )
    if requested >= feasible:
        return Quotas(tuple(caps), requested)
    shares = _water_fill(requested, caps, [1.0] * len(units) if weights is None else weights)
    return Quotas(_to_integers(shares, requested, caps), requested)


def _check(
    units: Sequence[int],
    fraction: float,
    min_keep: Sequence[int],
    protected: Collection[int],
    weights: Sequence[float] | None,
) -> None:
    if not (math.isfinite(fraction) and 0 <= fraction < 1):
        raise BudgetError(f"the share to remove is {fraction:g}: expected a number in [0, 1)")
    if any(n < 0 for n in units):
        raise BudgetError(f"units per block are {list(units)}: expected counts of at least 0")
    if len(min_keep) != len(units) or any(keep < 0 for keep in min_keep):
        raise BudgetError(f"min_keep is {list(min_keep)}: expected {len(units)} counts of at least 0, one a block")
    outside = sorted(block for block in protected if not 0 <= block < len(units))
    if outside:
        raise BudgetError(f"protected blocks {outside} do not exist: expected indices below {len(units)}")
    if weights is None:
        return
    if len(weights) != len(units):
        raise BudgetError(f"got {len(weights)} quota weights for {len(units)} blocks: expected one a block")
    for block, weight in enumerate(weights):
        if block not in protected and not (math.isfinite(weight) and weight > 0):
            raise BudgetError(f"the quota weight of block {block} is {weight:g}: expected a finite number above 0")


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _floored(part: int, whole: int) -> str:
    # rounded down, so that asking for what the message names does work
    return f"{math.floor(10_000 * part / whole) / 10_000:.4f}" if whole else "0"


def _water_fill(requested: int, caps: Sequence[int], weights: Sequence[float]) -> list[Fraction]:
    """Shares min(level * weight, cap) that sum to `requested`; needs requested < sum(caps). Exact arithmetic."""
    shares = [Fraction(0)] * len(caps)
    still_open = [block for block, cap in enumerate(caps) if cap]
    weight = {block: Fraction(float(weights[block])) for block in still_open}
    left = Fraction(requested)
    while still_open:
        level = left / sum(weight[block] for block in still_open)
        full = [block for block in still_open if level * weight[block] >= caps[block]]
        if not full:
            for block in still_open:
                shares[block] = level * weight[block]
            break
        for block in full:
            shares[block] = Fraction(caps[block])
            left -= caps[block]
        still_open = [block for block in still_open if block not in full]
    return shares


def _to_integers(shares: Sequence[Fraction], requested: int, caps: Sequence[int]) -> tuple[int, ...]:
    counts = [_half_up(share) for share in shares]
    while excess := sum(counts) - requested:
        step = -1 if excess > 0 else 1
        for block in range(len(counts)):
            if sum(counts) != requested and 0 <= counts[block] + step <= caps[block]:
                counts[block] += step
    return tuple(counts)
