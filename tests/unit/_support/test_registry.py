import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medcore_prune._support import registry as registry_module
from medcore_prune._support.errors import RegistryError
from medcore_prune._support.registry import Registry, registries, unknown_name

TOY = """
from toy_registry import toys

@toys.register("{name}", source="a toy")
def {name}() -> int:
    return 1
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[object]]:
    """A registry whose built-in package holds `ball` and `kite`."""
    made: Registry[object] = Registry("toy", "toy_box", "toy.entry_points")
    box = tmp_path / "toy_box"
    box.mkdir()
    (box / "__init__.py").write_text("")
    for name in ("ball", "kite"):
        (box / f"{name}.py").write_text(TOY.format(name=name))
    (tmp_path / "toy_registry.py").write_text("toys = None")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: ())
    module = importlib.import_module("toy_registry")
    module.toys = made
    yield made
    registry_module._registries.remove(made)
    for name in [name for name in sys.modules if name.split(".")[0] in ("toy_box", "toy_registry", "toy_plug")]:
        del sys.modules[name]


def test_the_first_look_up_imports_the_built_in_modules(toys: Registry[object]) -> None:
    assert "toy_box.ball" not in sys.modules
    assert toys.available() == ["ball", "kite"]
    info = toys.info("kite")
    assert (info.source, info.origin, info.cost) == ("a toy", "built-in", "free")


def test_a_built_in_module_may_be_imported_before_any_look_up(toys: Registry[object]) -> None:
    importlib.import_module("toy_box.ball")
    assert toys.available() == ["ball", "kite"]


def test_register_hands_back_what_it_decorates(toys: Registry[object]) -> None:
    def top() -> int:
        return 2

    assert toys.register("top", source="mine")(top) is top
    assert toys.get("top") is top
    assert (toys.info("top").origin, "top" in toys, "spin" in toys) == ("user", True, False)


def test_a_taken_name_is_the_newcomers_error(toys: Registry[object]) -> None:
    with pytest.raises(RegistryError, match=r"toy name 'ball' is taken \(built-in\): .* taken are ball, kite"):
        toys.register("ball")(int)


def _cell(name: str, says: int) -> Callable[[], int]:
    """What a notebook's cell defines."""

    def declared() -> int:
        return says

    declared.__module__, declared.__qualname__ = "__main__", name
    return declared


def test_a_cell_that_is_run_again_counts_in_place_of_the_first(
    toys: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    toys.register("top", source="before")(_cell("spin", 1))
    newer = toys.register("top", source="after")(_cell("spin", 2))
    assert (toys.get("top"), toys.info("top").source) == (newer, "after")
    with pytest.raises(RegistryError, match=r"'top' is taken \(user\)"):
        toys.register("top")(_cell("another", 3))
    with pytest.raises(RegistryError, match=r"'ball' is taken \(built-in\)"):
        toys.register("ball")(_cell("ball", 3))
    # a script that registers one name twice has two definitions of it
    notebook.__file__ = "script.py"
    with pytest.raises(RegistryError, match=r"'top' is taken \(user\)"):
        toys.register("top")(_cell("spin", 4))
    assert toys.get("top") is newer


@pytest.mark.parametrize("name", ["Ball", "1st", "two words", "", "naïve", None, "x\n"])
def test_a_badly_formed_name(toys: Registry[object], name: object) -> None:
    with pytest.raises(RegistryError, match=r"bad toy name .*: expected lower-case letters, digits and underscores"):
        toys.register(name)  # type: ignore[arg-type]


def test_an_unknown_name_gets_the_nearest_match_and_all_names(toys: Registry[object]) -> None:
    with pytest.raises(RegistryError, match=r"unknown toy 'bal': did you mean 'ball'. available are ball, kite"):
        toys.get("bal")
    with pytest.raises(RegistryError, match=r"unknown toy 'zeppelin': available are ball, kite$"):
        toys.get("zeppelin")
    assert unknown_name("toy", "x", []) == "unknown toy 'x': available are (none)"


def test_unregister_forgets_a_users_name_only(toys: Registry[object]) -> None:
    toys.register("top")(int)
    toys.unregister("top")
    assert toys.available() == ["ball", "kite"]
    with pytest.raises(RegistryError, match="toy 'ball' is built in and stays"):
        toys.unregister("ball")


def test_prepare_makes_what_get_returns(toys: Registry[object]) -> None:
    toys.register("pair", prepare=lambda name, declared: (name, declared))(3)
    assert toys.get("pair") == ("pair", 3)
    assert toys.info("pair").declared == 3


def _publish(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, value: str) -> None:
    (folder / "toy_plug.py").write_text(text)
    point = importlib.metadata.EntryPoint("yoyo", value, "toy.entry_points")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: (point,))


def test_an_entry_point_is_registered_under_its_name(
    toys: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(monkeypatch, tmp_path, "def make():\n    return 5\n", "toy_plug:make")
    assert toys.available() == ["ball", "kite", "yoyo"]
    assert toys.info("yoyo").origin == "entry point 'yoyo' of toy_plug:make"


def test_an_entry_point_may_register_by_itself_and_look_names_up(
    toys: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from toy_registry import toys\nassert 'ball' in toys\n" + TOY.format(name="yoyo")
    _publish(monkeypatch, tmp_path, text, "toy_plug:yoyo")
    assert toys.available() == ["ball", "kite", "yoyo"]


def test_a_broken_entry_point_is_named_in_one_line_and_leaves_nothing(
    toys: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(monkeypatch, tmp_path, TOY.format(name="half") + "\nraise OSError('no disk\\nat all')", "toy_plug")
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"^entry point 'yoyo' of toy_plug cannot be loaded: OSError: no disk$"):
            toys.available()
    assert [entry.name for entry in toys.entries()] == ["ball", "kite"]


def test_every_registry_is_known(toys: Registry[object]) -> None:
    assert toys in registries()
    assert len({registry.kind for registry in registries()}) == len(registries())
