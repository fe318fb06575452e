"""The order of the house: each folder imports from itself and those before it, nothing runs in a circle."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import medcore_prune as mp

ROOT = Path(__file__).resolve().parents[2]
OUTER = ("criteria", "baselines", "benchmarks")
# the way of the data; docs/architecture.md says what each holds
ORDER = (
    "_support",
    "data",
    "models",
    "evaluation",
    "calibration",
    "scoring",
    "pruning",
    "correction",
    "checkpoints",
    "training",
    "zoo",
    "criteria",
    "baselines",
    "commands",
    "benchmarks",
)
# whoever reads a default or needs torchvision's schemas may have them
EVERYONES = ("medcore_prune.compat", "medcore_prune.defaults")
AT_THE_TOP = {"__init__.py", "__init__.pyi", "compat.py", "defaults.py", "py.typed"}
MOST_FILES = 16


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "medcore_prune" else ("medcore_prune", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for top in ("medcore_prune", *OUTER) for path in (ROOT / top).rglob("*.py")}


def folder_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else ""


def imported(module: str) -> Iterator[str]:
    """Modules of this package that a module imports, at its top, in a function, or for its annotations."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            here = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*here, *([node.module] if node.module else [])])
            for alias in node.names:
                found = f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
                if found in MODULES:
                    yield found


GRAPH = {module: set(imported(module)) - {module} for module in MODULES}


def test_the_reader_of_imports_sees_them() -> None:
    assert {"medcore_prune.criteria.medcore", "medcore_prune.scoring.recipes"} <= GRAPH[
        "medcore_prune.baselines.medcore"
    ]
    assert len(MODULES) > 150


@pytest.mark.parametrize("folder", ORDER)
def test_arrows_go_one_way(folder: str) -> None:
    allowed = ORDER[: ORDER.index(folder) + 1]
    wrong = {
        f"{module} -> {target}"
        for module, targets in GRAPH.items()
        if folder_of(module) == folder
        for target in targets
        if target not in EVERYONES and folder_of(target) not in allowed
    }
    assert not wrong


def test_nothing_runs_in_a_circle() -> None:
    left = {module: set(targets) for module, targets in GRAPH.items()}
    # what imports nothing that is left can go; what never can is in a circle, or imports one
    while ready := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in ready:
            del left[module]
    assert not left


def folders() -> list[Path]:
    return sorted({path.parent for path in MODULES.values()})


@pytest.mark.parametrize("folder", folders(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_says_what_lives_there(folder: Path) -> None:
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert said
    assert said.splitlines()[0].endswith(".")
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES


def offered() -> dict[str, set[str]]:
    """What `mp.NAME` offers, by the folder that it comes from."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((ROOT / "medcore_prune" / "__init__.pyi").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.setdefault(node.module.split(".")[0], set()).update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("folder", sorted(offered()))
def test_a_face_names_what_is_public(folder: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / "medcore_prune" / folder / "__init__.py").read_text(encoding="utf-8")))
    line = next(part for part in (said or "").split("\n\n") if part.startswith("Offered as `mp.NAME`: "))
    named = " ".join(line.removeprefix("Offered as `mp.NAME`: ").removesuffix(".").split()).split(", ")
    assert named == sorted(offered()[folder], key=lambda name: (name.lower(), name))
    assert set(named) <= set(mp.__all__)


def test_nothing_else_lies_at_the_top() -> None:
    files = {path.name for path in (ROOT / "medcore_prune").iterdir() if path.is_file()}
    assert files == AT_THE_TOP
    inner = [path.name for path in (ROOT / "medcore_prune").iterdir() if (path / "__init__.py").is_file()]
    assert set(inner) == set(ORDER) - set(OUTER)


def said_by(module: str) -> Iterator[str]:
    """Texts within the errors and warnings that a module raises."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        warns = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn")
        if isinstance(node, ast.Raise) or warns:
            yield from (
                part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )


LIBRARY = [
    module
    for module in MODULES
    # the training of the built-in pair is a program of its own
    if folder_of(module) not in ("commands", "benchmarks") and module != "medcore_prune.zoo.train"
]


@pytest.mark.parametrize("module", LIBRARY)
def test_errors_of_the_library_name_no_option_of_a_command(module: str) -> None:
    assert [text for text in said_by(module) if re.search(r"(?<![\w-])--[a-z]", text)] == []


def test_options_in_errors_would_be_found() -> None:
    found = [text for text in said_by("medcore_prune.commands.work.planning") if "--method" in text]
    assert found
