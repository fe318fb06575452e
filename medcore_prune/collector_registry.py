"""Collectors by name."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .collector import Collector
from .errors import RegistryError
from .registry import BUILT_IN, Registry, code_of
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
