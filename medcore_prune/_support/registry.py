"""One registry for everything that plugs in by name: criteria, baselines, model families, readers of files, layouts."""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from .errors import CriterionError, MedcorePruneError, RegistryError, UnknownNameError

T = TypeVar("T")
V = TypeVar("V")

BUILT_IN = "built-in"
USER = "user"


@dataclass(frozen=True)
class Names:
    """What names of a registry look like: a regular expression of the whole name, and the same in words."""

    pattern: str = r"[a-z][a-z0-9_]*"
    words: str = "lower-case letters, digits and underscores, a letter first"


_LOADING = threading.RLock()
_registries: list["Registry[Any]"] = []
_origins: list[str] = []


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a registry knows about one name.

    Attributes:
        name: The registered name.
        value: What `get` returns.
        declared: What was handed to the decorator, before it was made a `value`.
        source: Where the method comes from: a paper, a project.
        origin: `"built-in"`, `"user"`, or the plug-in or entry point that registered it.
    """

    name: str
    value: T
    declared: object
    source: str
    origin: str

    @property
    def cost(self) -> str:
        """`"free"`, `"calibration"` or `"slow"`."""
        return str(getattr(self.value, "cost", "free"))


def _same_cell_again(taken: Entry[Any], declared: object) -> bool:
    """Whether a definition in a session without a file, as a notebook's, is run again: the newer one counts."""
    both = (taken.declared, declared)
    in_session = all(getattr(each, "__module__", "") == "__main__" for each in both) and taken.origin == USER
    names = {getattr(each, "__qualname__", None) for each in both}
    return in_session and len(names) == 1 and None not in names and not hasattr(sys.modules["__main__"], "__file__")


class Registry(Generic[T]):
    """Names to values; built-in modules and entry points are imported at the first look-up.

    Args:
        kind: What is registered, in the singular, for messages.
        package: Import name of the package whose modules are the built-in entries, or of the one module that holds
            them. It is searched by folder, so that an uninstalled checkout works.
        entry_point_group: Group of third-party entry points.
        prepare: Turns what was decorated into the value that `get` returns; it may refuse with `RegistryError`.
        names: What names look like.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        entry_point_group: str,
        prepare: Callable[[str, Any], T] | None = None,
        names: Names | None = None,
    ) -> None:
        self.kind = kind
        self._names = names or Names()
        self._package = package
        self._group = entry_point_group
        self._prepare = prepare
        self._entries: dict[str, Entry[T]] = {}
        self._loaded_built_in = False
        self._loaded_entry_points = False
        _registries.append(self)

    def register(
        self, name: str, *, source: str = "", prepare: Callable[[str, Any], T] | None = None
    ) -> Callable[[V], V]:
        """Return a decorator that registers what it decorates, and hands it back unchanged.

        `source` says where the method comes from; `prepare` is used in place of the registry's own. A name that is
        taken is refused, but for the same function or class in a session without a file: a notebook's cell run again.
        """

        def decorate(declared: V) -> V:
            self._add(name, declared, source, prepare or self._prepare)
            return declared

        if not isinstance(name, str) or not re.fullmatch(self._names.pattern, name):
            raise RegistryError(f"bad {self.kind} name {name!r}: expected {self._names.words}")
        return decorate

    def _add(self, name: str, declared: Any, source: str, prepare: Callable[[str, Any], T] | None) -> None:
        built_in = f"{getattr(declared, '__module__', '')}.".startswith(f"{self._package}.")
        if not built_in:
            # so that a clash is the newcomer's error, whoever comes first
            self._load_built_in()
        if name in self._entries and not _same_cell_again(self._entries[name], declared):
            taken = self._entries[name]
            raise RegistryError(
                f"{self.kind} name {name!r} is taken ({taken.origin}): choose another; taken are {self._listing()}"
            )
        value = prepare(name, declared) if prepare is not None else declared
        origin = BUILT_IN if built_in else (_origins[-1] if _origins else USER)
        self._entries[name] = Entry(name, value, declared, source, origin)

    def unregister(self, name: str) -> None:
        """Forget a name that is not built in, e.g. to define it anew in a notebook."""
        if self.info(name).origin == BUILT_IN:
            raise RegistryError(f"{self.kind} {name!r} is built in and stays: register yours under another name")
        del self._entries[name]

    def get(self, name: str) -> T:
        """Return what is registered under `name`; where nothing is, the error has the nearest match and all names."""
        return self.info(name).value

    def info(self, name: str) -> Entry[T]:
        """Return the entry of `name`: value, source, needs, cost and origin."""
        self._load()
        if name not in self._entries:
            raise UnknownNameError(unknown_name(self.kind, name, sorted(self._entries)))
        return self._entries[name]

    def available(self) -> list[str]:
        """Return all names, sorted."""
        self._load()
        return sorted(self._entries)

    def values(self) -> list[T]:
        """Return what `get` returns for every name, in order of registration, what is built in first."""
        self._load()
        ordered = sorted(self._entries.values(), key=lambda entry: entry.origin != BUILT_IN)
        return [entry.value for entry in ordered]

    def entries(self) -> list[Entry[T]]:
        """Return what is registered so far, in order; entry points that no look-up has loaded yet are left out."""
        self._load_built_in()
        return list(self._entries.values())

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def _listing(self) -> str:
        return ", ".join(sorted(self._entries)) or "(none)"

    def _load(self) -> None:
        with _LOADING:
            self._load_all()

    def _load_all(self) -> None:
        self._load_built_in()
        if self._loaded_entry_points:
            return
        # set first: an entry point may look names up while it is imported
        self._loaded_entry_points = True
        try:
            for point in entry_points(group=self._group):
                self._load_entry_point(point)
        except RegistryError:
            self._loaded_entry_points = False
            raise

    def _load_built_in(self) -> None:
        # another thread must not see a registry of which a part is there
        with _LOADING:
            if self._loaded_built_in:
                return
            self._loaded_built_in = True
            package = importlib.import_module(self._package)
            for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{self._package}."):
                importlib.import_module(module.name)

    def _load_entry_point(self, point: EntryPoint) -> None:
        owner = point.dist.name if point.dist is not None else point.value
        with all_or_nothing(f"entry point {point.name!r} of {owner}"):
            declared = point.load()
            known = any(entry.declared is declared for entry in self._entries.values())
            if not isinstance(declared, ModuleType) and not known:
                self.register(point.name)(declared)


def registries() -> list[Registry[Any]]:
    """Return every registry there is."""
    return list(_registries)


def code_of(value: Any) -> str:
    """Return the source code of a class or function; its representation where there is none, as in a notebook."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return repr(value)


def unknown_name(kind: str, name: object, names: list[str]) -> str:
    """Word the error for a name that does not exist: the nearest match, then all that exist."""
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}:{hint} available are {', '.join(names) or '(none)'}"


@contextmanager
def all_or_nothing(what: str) -> Iterator[None]:
    """Name the origin of what registers inside; undo every registration when the block fails, in one line."""
    before = [dict(registry._entries) for registry in _registries]
    _origins.append(what)
    try:
        yield
    # a plug-in that ends the program would end it without a word
    except (Exception, SystemExit) as error:
        for registry, entries in zip(_registries, before, strict=False):
            # built-in modules that the plug-in happened to pull in stay: they will not be imported a second time
            registry._entries = {
                name: entry for name, entry in registry._entries.items() if name in entries or entry.origin == BUILT_IN
            }
        lines = str(error).strip().splitlines() or [""]
        raise RegistryError(f"{what} cannot be loaded: {type(error).__name__}: {lines[0]}") from error
    finally:
        _origins.pop()


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
    with _LOADING, all_or_nothing(f"plug-in {plugin}"):
        if is_file:
            _import_file(path)
        else:
            importlib.import_module(str(plugin))
    added = [entry for entry in _registered() if entry not in before]
    if is_file and not added:
        raise RegistryError(
            f"plug-in {plugin} registers nothing: decorate its criterion with @register_criterion, or what else it adds"
        )
    _loaded[key] = added
    return [name for _, name in added]


def loaded_plugins() -> list[str]:
    """Files, by their whole paths, and modules that are loaded as plug-ins, in order."""
    there = set(_registered())
    return [plugin for plugin, added in _loaded.items() if there.issuperset(added)]


@contextmanager
def failures_named(method: str, kind: type[MedcorePruneError] = CriterionError) -> Iterator[None]:
    """Turn whatever a criterion or a collector raises into one line that names it and the place.

    What is none of this package's errors, or ends the program, becomes one of `kind`.
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
