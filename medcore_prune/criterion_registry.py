"""Criteria by name."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ._support.errors import CriterionError, RegistryError
from ._support.registry import Entry, Registry
from .adapters import INPUTS, criterion_factory
from .calibration.collector import Need
from .criterion import Cost, Criterion

V = TypeVar("V")

criteria: Registry[type[Criterion]] = Registry(
    "criterion", "medcore_prune.criteria", "medcore_prune.criteria", prepare=criterion_factory
)
"""All criteria: built-in ones, those of installed packages (entry points of this group), and a user's own."""


def register_criterion(
    name: str, *, source: str = "", needs: Iterable[Need] | None = None, cost: Cost | None = None
) -> Callable[[V], V]:
    """Return a decorator that registers a criterion; it then appears in the comparison by itself.

    It takes a `Criterion` class, a torch-pruning importance, or a plain function such as
    `def weight(group, statistics) -> Tensor`, and hands it back unchanged.

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
    """Return source, needs, cost and origin of a criterion.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return criteria.info(name)


def build_criterion(criterion: str | type[Criterion], **inputs: Any) -> Criterion:
    """Build a criterion with what its constructor names, and nothing else.

    Args:
        criterion: A registered name, or a class.
        inputs: Any of `statistics`, `model`, `reference`, `data`, `seed`: those that it does not name are left out,
            None counts as absent. And settings such as `beta`, which it must name.

    Returns:
        What scores units.

    Raises:
        RegistryError: An unknown name, or a setting that it does not have.
        CriterionError: An input that it needs is absent.
    """
    made = get_criterion(criterion) if isinstance(criterion, str) else criterion
    name = criterion if isinstance(criterion, str) else criterion.__name__
    parameters = inspect.signature(made).parameters
    settings = [key for key in parameters if key not in INPUTS]
    for key in inputs:
        if key not in INPUTS and key not in parameters:
            raise RegistryError(f"criterion {name!r} has no setting {key!r}: it has {', '.join(settings) or 'none'}")
    given = {key: value for key, value in inputs.items() if key in parameters and not (key in INPUTS and value is None)}
    absent = [key for key, p in parameters.items() if key in INPUTS and p.default is p.empty and key not in given]
    if absent:
        raise CriterionError(f"criterion {name!r} needs {' and '.join(absent)}: {_HOW[absent[0]]}")
    return made(**given)


_HOW = {
    "statistics": "collect them with medcore_prune.calibrate",
    "model": "pass the model that is to be pruned",
    "reference": "pass the checkpoint that the model was fine-tuned from",
    "data": "pass images with masks",
    "seed": "pass a whole number",
}
