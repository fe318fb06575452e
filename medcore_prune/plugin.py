"""Plug-ins: a Python file or a module that registers criteria and baselines."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import CriterionError, MedcorePruneError, RegistryError
from .registry import BUILT_IN, all_or_nothing, registries

_loaded: dict[str, list[tuple[str, str]]] = {}


def load_plugin(plugin: str | Path) -> list[str]:
    """Import a plug-in so that what it registers can be looked up by name.

    Args:
        plugin: A Python file (`my_criterion.py`) or an importable module (`my_package.criteria`).

    Returns:
        The names that it registered, in order; loading the same plug-in again returns the same.

    Raises:
        RegistryError: It does not exist, fails while it is imported (nothing of it stays registered), or is a file
            that registers nothing.
    """
    path = Path(plugin)
    is_file = path.suffix == ".py"
    key = str(path.resolve()) if is_file else str(plugin)
    before = _registered()
    if key in _loaded and set(_loaded[key]) <= set(before):
        return [name for _, name in _loaded[key]]
    if is_file and not path.is_file():
        raise RegistryError(f"plug-in {plugin} cannot be loaded: there is no such file")
    with all_or_nothing(f"plug-in {plugin}"):
        if is_file:
            _import_file(path)
        else:
            importlib.import_module(str(plugin))
    added = [entry for entry in _registered() if entry not in before]
    if is_file and not added:
        raise RegistryError(f"plug-in {plugin} registers nothing: decorate its criterion with @register_criterion")
    _loaded[key] = added
    return [name for _, name in added]


@contextmanager
def failures_named(method: str, kind: type[MedcorePruneError] = CriterionError) -> Iterator[None]:
    """Turn whatever a criterion or a collector raises into one line that names it and the place.

    Args:
        method: What it is called.
        kind: The error to raise in place of what is none of this package's.

    Raises:
        MedcorePruneError: Of `kind`, where what is raised within is none of this package's errors, or ends the program.
    """
    try:
        yield
    except MedcorePruneError as error:
        raise type(error)(f"{method}: {error}") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        reason = (str(error).splitlines() or [""])[0][:160]
        raise kind(f"{method} failed: {type(error).__name__}: {reason} ({place})") from error


def _registered() -> list[tuple[str, str]]:
    entries = [(registry.kind, entry) for registry in registries() for entry in registry.entries()]
    return [(kind, entry.name) for kind, entry in entries if entry.origin != BUILT_IN]


def _import_file(path: Path) -> None:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"medcore_prune_plugin_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py suffix always has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickle look a class's module up by name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
