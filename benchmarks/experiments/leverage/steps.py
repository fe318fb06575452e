"""The sweep over head and MLP levels: its cells, its steps, and which of them save anything (METHOD section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...._support.errors import BudgetError
from ....models.groups import Family
from ....pruning.level import Level
from ...commands.leverage import HEADS, NEURONS


@dataclass(frozen=True)
class Step:
    """One step of the sweep, from cell to cell: one family goes to its next level, the other stays."""

    family: Family
    start: Level
    stop: Level

    def __str__(self) -> str:
        return f"{self.start} > {self.stop}"


@dataclass(frozen=True)
class StepGrid:
    """Levels of heads times levels of neurons: shares in [0, 1), rising, at least two each."""

    heads: tuple[float, ...] = HEADS
    neurons: tuple[float, ...] = NEURONS

    def __post_init__(self) -> None:
        for name, shares in (("heads", self.heads), ("neurons", self.neurons)):
            if len(shares) < 2 or any(b <= a for a, b in pairwise(shares)):
                raise BudgetError(f"shares of {name} of a sweep are {shares}: expected two or more that rise")

    @property
    def levels(self) -> list[Level]:
        """All cells, heads outside and neurons inside."""
        return [Level(h, m) for h in self.heads for m in self.neurons]

    @property
    def steps(self) -> list[Step]:
        """All steps: those of heads first, then those of neurons."""
        of_heads = [Step("heads", Level(a, m), Level(b, m)) for m in self.neurons for a, b in pairwise(self.heads)]
        of_neurons = [Step("neurons", Level(h, a), Level(h, b)) for h in self.heads for a, b in pairwise(self.neurons)]
        return of_heads + of_neurons


def valid_steps(steps: Sequence[Step], params: Mapping[Level, int], dense: int) -> dict[Step, float]:
    """Keep the steps that save parameters, with Delta C, percent of the unpruned encoder's `dense` parameters.

    Where both cells are saturated the leverage is undefined.
    """
    saved = {step: 100 * (params[step.start] - params[step.stop]) / dense for step in steps}
    return {step: percent for step, percent in saved.items() if percent > 0}


def paired_cells(steps: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Pair the head step and the MLP step of every cell from which both are there."""
    heads = {step.start: step for step in steps if step.family == "heads"}
    neurons = {step.start: step for step in steps if step.family == "neurons"}
    return [(heads[level], neurons[level]) for level in heads if level in neurons]
