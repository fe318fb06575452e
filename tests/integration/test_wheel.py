"""A wheel built from the sdist, in an environment of its own, runs the comparison from an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("medcore_prune", "criteria", "baselines", "benchmarks", "tests")
FILES = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md")

pytest.importorskip("build")


def _run(command: list[str], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`python -m build` makes the sdist first, and the wheel from that; no package index is asked."""
    place = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        shutil.copytree(ROOT / name, place / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, place / "checkout" / name)
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), "checkout"], place)
    assert list((place / "dist").glob("medcore_prune-*.tar.gz"))
    return next((place / "dist").glob("medcore_prune-*.whl"))


def test_the_only_top_level_name_is_ours(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"medcore_prune"}
    for needed in ("zoo/pocket_adapted.safetensors", "benchmarks/report/templates/report.html.j2", "py.typed"):
        assert f"medcore_prune/{needed}" in names
    assert not [name for name in names if "tests" in name]


def test_it_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    fresh, empty = tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    venv.create(fresh)
    python = fresh / "bin" / "python"
    # the dependencies of the running environment, without what is installed there for editing
    inside = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], empty).strip()
    Path(inside, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    _run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], empty)
    where = _run([str(python), "-c", "import medcore_prune.benchmarks as b; print(b.__file__)"], empty)
    assert Path(where.strip()).is_relative_to(fresh)
    few = [
        "--quick",
        "--set",
        "images=1",
        "--set",
        "calibration=2",
        "--levels",
        "h50_m70",
        "--methods",
        "magnitude,medcore",
    ]
    printed = _run([str(fresh / "bin" / "medcore-bench"), "baselines", *few], empty)
    assert "phantom images, pocket model: not a clinical result" in printed
    assert (empty / "medcore-results" / "baselines" / "report.html").stat().st_size > 10_000
