"""Collectors by name."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from torch import nn

from ._support.errors import RegistryError, StatisticsError
from ._support.registry import BUILT_IN, Registry, code_of, failures_named
from .collector import Collector, stored_shapes
from .weight_layout import Weights

V = TypeVar("V", bound=type[Collector])


def _checked(name: str, declared: Any) -> type[Collector]:
    if not (isinstance(declared, type) and issubclass(declared, Collector)):
        raise RegistryError(f"collector {name!r}: expected a subclass of Collector, got {declared!r}")
    if inspect.isabstract(declared) or not getattr(declared, "powers", None):
        raise RegistryError(f"collector {name!r} lacks powers, shapes or contribute: see medcore_prune.Collector")
    return declared


collectors: Registry[type[Collector]] = Registry(
    "collector", "medcore_prune.collectors", "medcore_prune.collectors", prepare=_checked
)
"""All collectors: built-in ones, those of installed packages (entry points of this group), and a user's own."""


def register_collector(name: str, *, source: str = "") -> Callable[[V], V]:
    """Return a decorator that registers a subclass of `Collector`; criteria ask for its sums by `Need(name)`.

    Args:
        name: Lower-case letters, digits and underscores.
        source: A paper or a project.

    Returns:
        The decorator, which hands the class back unchanged.

    Raises:
        RegistryError: A bad or taken name, or something that is no collector.
    """
    return collectors.register(name, source=source)


def get_collector(name: str) -> type[Collector]:
    """Return the class of collectors registered under `name`.

    Args:
        name: As registered, or as a `Need` names it.

    Returns:
        The class.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return collectors.get(name)


def own_collectors() -> list[str]:
    """Return the names of collectors that are not built in, sorted."""
    return [name for name in collectors.available() if collectors.info(name).origin != BUILT_IN]


def is_own(name: str) -> bool:
    """Whether a collector of this name is registered and not built in."""
    return name in collectors and collectors.info(name).origin != BUILT_IN


def faults_named(name: str) -> AbstractContextManager[None]:
    """Name a collector that is not built in, and the place, in one line for whatever is raised within.

    What fails in a built-in one is a fault of the program, and passes.
    """
    return failures_named(f"collector {name!r}", StatisticsError) if is_own(name) else nullcontext()


def shapes_of(name: str, losses: Sequence[str], model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that a collector stores of a model under these losses, by key `<sum>/<name>`.

    Raises:
        RegistryError: Unknown.
        StatisticsError: A collector of a user's own cannot say.
    """
    with faults_named(name):
        return stored_shapes(get_collector(name), losses, model)


def layout_of(kind: str) -> type[Collector] | None:
    """Return the class that says how statistics of a kind are laid out; None where no such collector is known."""
    if kind == "weights":
        return Weights
    return collectors.get(kind) if kind in collectors else None


def version_of(name: str) -> str:
    """SHA-256 (hex) of a collector's code, so that sums of an older one are not taken for its own; "" if built in."""
    entry = collectors.info(name)
    if entry.origin == BUILT_IN:
        return ""
    return hashlib.sha256(code_of(entry.value).encode()).hexdigest()
