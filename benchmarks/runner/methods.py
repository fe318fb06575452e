"""Which methods take part, in which order, over which seeds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..._support.errors import UnreadableError
from ..._support.files import read_json_file
from ..._support.registry import BUILT_IN, code_of, load_plugin
from ...calibration.collector import Need, version_of
from ...scoring.criterion import Criterion
from ...scoring.recipes import Baseline, available_baselines, baseline_info
from ...scoring.registry import criteria
from .settings import Settings


@dataclass(frozen=True)
class Method:
    """One method of the comparison: a recipe, where it was registered, and the seeds of its cells.

    Seeds are calibration draws, or those of a stochastic method.
    """

    name: str
    recipe: Baseline
    origin: str
    seeds: tuple[int, ...]

    @property
    def needs(self) -> frozenset[Need]:
        """What calibration must collect for its scores and quotas."""
        return self.recipe.needs

    @property
    def calibrated(self) -> bool:
        """Whether its result depends on the calibration sample."""
        return bool(self.needs) or self.recipe.reads_images

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings and of the code that scores come from: the criterion's, and its collectors'."""
        collected = "".join(version_of(need.kind) for need in sorted(self.needs) if need.summed)
        source = _code_of(self.recipe.criterion) + collected
        return hashlib.sha256(json.dumps([self.describe(), source], sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return what reports say about the method, as plain values."""
        recipe = self.recipe
        return {
            "source": recipe.source,
            "description": recipe.description,
            "origin": self.origin,
            "needs": sorted(self.needs),
            "cost": recipe.cost,
            "quotas": recipe.quotas,
            "tau": recipe.tau if recipe.quotas == "sensitivity" else None,
            "settings": {name: repr(value) for name, value in recipe.settings.items()},
            "stochastic": recipe.stochastic,
            "calibrated": self.calibrated,
        }


def _code_of(criterion: type[Criterion]) -> str:
    """Code that scores come from; of a built-in criterion as it was when its scores last changed.

    `code_of_criteria.json` holds the code of those that were rewritten since and score alike, so that what is stored
    stays valid, with the SHA-256 of the code that they are now: whoever edits it has results of its own again.
    """
    now = code_of(getattr(criterion, "function", criterion))
    for entry in criteria.entries():
        if entry.value is criterion and entry.origin == BUILT_IN and (kept := _codes().get(entry.name)):
            return kept["code"] if kept["scores_as"] == hashlib.sha256(now.encode()).hexdigest() else now
    return now


@cache
def _codes() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = read_json_file(Path(__file__).with_name("code_of_criteria.json"))
    return found


def choose_methods(settings: Settings) -> list[Method]:
    """Load plug-ins and list the methods of the comparison, in the order of its tables.

    What draws lots comes first, then what needs no images, then the calibrated and the slow ones, and the subject last.
    """
    for plugin in settings.plugins:
        load_plugin(plugin)
    names = dict.fromkeys(settings.methods or available_baselines())
    methods = [_method(name, settings) for name in names]
    return sorted(methods, key=lambda method: table_order(method.name, method.describe(), settings.subject))


def table_order(name: str, about: Mapping[str, Any], subject: str) -> tuple[bool, bool, int, str]:
    """Sort key of the tables' rows, from what `Method.describe` says."""
    costs = ("free", "calibration", "slow")
    cost = costs.index(about["cost"]) if about.get("cost") in costs else len(costs)
    return name == subject, not about.get("stochastic"), cost, name


def _method(name: str, settings: Settings) -> Method:
    entry = baseline_info(name)
    recipe = entry.value
    count = settings.seeds if recipe.needs or recipe.reads_images else 1
    if recipe.stochastic:
        count = max(settings.counts.random_seeds, settings.seeds)
    return Method(name, recipe, entry.origin, tuple(range(count)))


def without_reference(methods: Sequence[Method]) -> list[Method]:
    """Leave out methods that compare with a reference, where there is none."""
    return [method for method in methods if not method.recipe.reads_reference]


def require_reference(methods: Sequence[Method], has_reference: bool) -> None:
    """Refuse methods that read a reference where there is none, and name those that could run without it."""
    able = [method.name for method in (methods if has_reference else without_reference(methods))]
    if lacking := [method.name for method in methods if method.name not in able]:
        raise UnreadableError(
            f"{', '.join(lacking)} compare{'s' * (len(lacking) == 1)} with the checkpoint before adaptation: give "
            "--reference FILE (pocket for the built-in one), "
            + (f"or --methods {','.join(able)}" if able else "or a method that reads none, such as zero_fisher")
        )
