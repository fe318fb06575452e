"""How long a budget is searched, and on how many images."""

from dataclasses import dataclass

from ..._support.errors import StatisticsError

IMAGES, GENERATIONS, CANDIDATES = 24, 12, 16
METHOD_VERSION = 2
"""Raised whenever the same settings come to another plan."""


@dataclass(frozen=True)
class SearchSettings:
    """How a budget is searched; each field as the argument of `searched_plan`, and refused where it cannot be."""

    samples: int = 64
    images: int = IMAGES
    generations: int = GENERATIONS
    candidates: int = CANDIDATES
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "images", "generations", "candidates"):
            if getattr(self, name) < 1:
                raise StatisticsError(f"{name} is {getattr(self, name)}: expected at least 1")
