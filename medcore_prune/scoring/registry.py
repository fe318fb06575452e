"""Criteria by name."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch_pruning as tp

from .._support.errors import RegistryError
from .._support.registry import Entry, Registry
from ..calibration.collector import Need
from .adapters import of_function, of_importance
from .criterion import COSTS, Cost, Criterion
from .inputs import INPUTS, Inputs

_ADAPTED = frozenset({Need.FISHER, Need.MEAN_GRADIENT})


def criterion_factory(
    name: str, declared: Any, needs: Iterable[Need] | None = None, cost: Cost | None = None
) -> type[Criterion]:
    """Make what was registered a class of criteria, a class itself where it is one; as `register_criterion`."""
    if cost is not None and cost not in COSTS:
        raise RegistryError(f"criterion {name!r} has cost {cost!r}: expected one of {', '.join(COSTS)}")
    made = _make(name, declared)
    if made is not declared and needs is None:
        needs = _ADAPTED if "statistics" in made.reads else ()
    if needs is not None:
        needs = frozenset(Need(need) for need in needs)
        made.needs = needs  # type: ignore[method-assign, assignment]
    if cost is not None or (made is not declared and needs):
        made.cost = cost or "calibration"
    made._name = name
    return made


def _make(name: str, declared: Any) -> type[Criterion]:
    if isinstance(declared, type) and issubclass(declared, Criterion):
        if declared.score is Criterion.score and declared.score_all is Criterion.score_all:
            raise RegistryError(f"criterion {name!r} has no scores: define score or score_all")
        _check_settings(name, inspect.signature(declared).parameters.values())
        return declared
    if isinstance(declared, tp.importance.Importance):
        return of_importance(declared)
    if isinstance(declared, type) and issubclass(declared, tp.importance.Importance):
        _check_settings(name, inspect.signature(declared).parameters.values())
        return of_importance(declared)
    if inspect.isfunction(declared):
        parameters = list(inspect.signature(declared).parameters.values())
        _check_settings(name, [p for p in parameters[1:] if p.name not in INPUTS])
        return of_function(declared)
    raise RegistryError(
        f"criterion {name!r} is {declared!r}: expected a Criterion class, a function of a group, or a torch-pruning "
        "importance"
    )


def _check_settings(name: str, settings: Iterable[inspect.Parameter]) -> None:
    if unknown := [
        p.name for p in settings if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]:
        raise RegistryError(
            f"criterion {name!r} asks for {', '.join(unknown)}: expected parameters among {', '.join(INPUTS)}, others "
            "need a default"
        )


V = TypeVar("V")

criteria: Registry[type[Criterion]] = Registry(
    "criterion", "medcore_prune.criteria", "medcore_prune.criteria", prepare=criterion_factory
)
"""All criteria: built-in ones, those of installed packages (entry points of this group), and a user's own."""


def register_criterion(
    name: str, *, source: str = "", needs: Iterable[Need] | None = None, cost: Cost | None = None
) -> Callable[[V], V]:
    """Return a decorator that registers a criterion; it then appears in the comparison by itself.

    It takes a `Criterion` class, a torch-pruning importance (class or object), or a plain function such as
    `def weight(group, statistics) -> Tensor`, and hands it back unchanged. The first parameter of a function takes the
    group; the others are inputs, by the names `statistics`, `model`, `reference`, `data` and `seed`, or settings, which
    have defaults.

    Args:
        name: Lower-case letters, digits and underscores.
        source: A paper or a project.
        needs: What calibration must collect, and all that can then be relied on; by default the Fisher and the mean
            gradient of the adapted model for a function that takes `statistics`, and for a class its own `needs`.
        cost: `"free"`, `"calibration"`, or `"slow"` for what runs only when named.

    Returns:
        The decorator, which hands back what it is given.

    Raises:
        RegistryError: A bad or taken name, or something that is no criterion.
    """
    return criteria.register(
        name, source=source, prepare=lambda name, declared: criterion_factory(name, declared, needs, cost)
    )


def get_criterion(name: str) -> type[Criterion]:
    """Return the class of criteria registered under `name`.

    Args:
        name: As `available_criteria` lists it.

    Returns:
        The class; `build_criterion` makes an object of it.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return criteria.get(name)


def available_criteria() -> list[str]:
    """Return the names of all criteria, sorted.

    Returns:
        Names that `get_criterion` knows, built in or from plug-ins.
    """
    return criteria.available()


def criterion_info(name: str) -> Entry[type[Criterion]]:
    """Return source, cost and origin of a criterion."""
    return criteria.info(name)


def build_criterion(criterion: str | type[Criterion] | Mapping[str, Any], **given: Any) -> Criterion:
    """Build a criterion with its settings, and give it what it reads.

    Args:
        criterion: A registered name, a class, or what `Criterion.to_json` returned.
        given: Any of `statistics`, `model`, `reference`, `data`, `seed`, of which a criterion reads what it needs and
            None counts as absent; and settings such as `beta`, which it must have.

    Returns:
        What scores units.

    Raises:
        RegistryError: An unknown name, or a setting that it does not have.
        CriterionError: An input that it needs is absent, or a setting is out of range.
        StatisticsError: The statistics lack what it needs, or do not fit the model.
    """
    if isinstance(criterion, Mapping):
        given = {**criterion.get("settings", {}), **given}
        criterion = str(criterion.get("criterion"))
    made = get_criterion(criterion) if isinstance(criterion, str) else criterion
    inputs = {key: given.pop(key) for key in INPUTS if given.get(key) is not None}
    settings = {key: value for key, value in given.items() if key not in INPUTS}
    known = inspect.signature(made).parameters
    for key in settings:
        if key not in known:
            name = criterion if isinstance(criterion, str) else criterion.__name__
            raise RegistryError(f"criterion {name!r} has no setting {key!r}: it has {', '.join(known) or 'none'}")
    return made(**settings).bind(Inputs(**inputs))
