import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcore_prune._support.errors import CriterionError, DataError, RegistryError
from medcore_prune._support.registry import failures_named, load_plugin, loaded_plugins
from medcore_prune.scoring.recipes import available_baselines, baselines
from medcore_prune.scoring.registry import available_criteria, criteria, criterion_info

WEIGHT = """
from medcore_prune.scoring.registry import register_criterion

@register_criterion("{name}", source="a test")
def weight(group):
    return group.layer_out.weight.abs().sum(0)[group.out_cols].sum(1)
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for registry in (criteria, baselines):
        for entry in registry.entries():
            if entry.origin != "built-in":
                registry.unregister(entry.name)


def _write(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_registers_a_criterion(tmp_path: Path) -> None:
    path = _write(tmp_path, WEIGHT.format(name="weight"))
    assert load_plugin(path) == ["weight"]
    assert criterion_info("weight").origin == f"plug-in {path}"
    assert "weight" in available_baselines()


def test_what_is_loaded_is_known_as_long_as_it_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, WEIGHT.format(name="weight"))
    monkeypatch.chdir(tmp_path)
    load_plugin(path.name)
    assert loaded_plugins()[-1] == str(path)
    criteria.unregister("weight")
    assert str(path) not in loaded_plugins()


def test_the_same_file_twice_is_the_same(tmp_path: Path) -> None:
    path = _write(tmp_path, WEIGHT.format(name="weight"))
    assert load_plugin(str(path)) == load_plugin(path) == ["weight"]


def test_a_file_is_read_again_when_its_names_are_gone(tmp_path: Path) -> None:
    path = _write(tmp_path, WEIGHT.format(name="weight"))
    load_plugin(path)
    criteria.unregister("weight")
    assert load_plugin(path) == ["weight"]


def test_a_module_registers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, WEIGHT.format(name="weight"), "toy_criteria.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_criteria", raising=False)
    assert load_plugin("toy_criteria") == ["weight"]


def test_a_baseline_in_a_plug_in(tmp_path: Path) -> None:
    text = """
from medcore_prune import Baseline, get_criterion, register_baseline

@register_baseline("small_weights", source="a test")
def small_weights():
    return Baseline(get_criterion("magnitude"), {"p": 1})
"""
    assert load_plugin(_write(tmp_path, text)) == ["small_weights"]
    assert "small_weights" in available_baselines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        (WEIGHT.format(name="half") + "raise ValueError('no\\nway')\n", "ValueError: no$"),
        (WEIGHT.format(name="zero"), "RegistryError: criterion name 'zero' is taken"),
        (WEIGHT.format(name="Bad Name"), "RegistryError: bad criterion name 'Bad Name'"),
    ],
)
def test_a_broken_plug_in_is_named_in_one_line_and_leaves_nothing(tmp_path: Path, text: str, message: str) -> None:
    before = available_criteria()
    with pytest.raises(RegistryError, match=rf"plug-in .*mine\.py cannot be loaded: {message}") as caught:
        load_plugin(_write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert available_criteria() == before


def test_a_mended_plug_in_loads(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be loaded"):
        load_plugin(_write(tmp_path, WEIGHT.format(name="weight") + "1 / 0\n"))
    assert load_plugin(_write(tmp_path, WEIGHT.format(name="weight"))) == ["weight"]


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nothing\.py cannot be loaded: there is no such file"):
        load_plugin(tmp_path / "nothing.py")


def test_a_file_that_registers_nothing(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="registers nothing: decorate its criterion with @register_criterion"):
        load_plugin(_write(tmp_path, "x = 1\n"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{}['x']", "KeyError: 'x'"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_fails_while_it_scores_is_one_line_with_the_place(line: str, says: str, tmp_path: Path) -> None:
    path = _write(tmp_path, f"\n\n{line}\n")
    with pytest.raises(CriterionError) as caught, failures_named("mine"):
        exec(compile(path.read_text(), path, "exec"))
    assert str(caught.value) == f"mine failed: {says} (mine.py, line 3)"


def test_errors_of_this_package_stay_what_they_are() -> None:
    with pytest.raises(DataError, match=r"^mine: no images$"), failures_named("mine"):
        raise DataError("no images")
    with pytest.raises(KeyboardInterrupt), failures_named("mine"):
        raise KeyboardInterrupt
