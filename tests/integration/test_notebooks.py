"""The notebooks of docs/notebooks run from top to bottom, as they are and with a reader's model and images."""

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from forked import run_script
from nbclient import NotebookClient
from PIL import Image

import medcore_prune as mp

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
COMPRESS, CRITERION = "compress_your_medsam.ipynb", "your_own_criterion.ipynb"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is read or written."""
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def ran(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells; a cell that fails raises."""
    return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def outputs(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def told(notebook: nbformat.NotebookNode) -> str:
    """All that the outputs say in plain text."""
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs(notebook))


@pytest.mark.parametrize("name", [COMPRESS, CRITERION])
def test_they_are_stored_without_outputs(name: str) -> None:
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == {COMPRESS, CRITERION}
    notebook = read(name)
    nbformat.validate(notebook)
    assert list(outputs(notebook)) == []
    assert all(cell.get("execution_count") is None for cell in notebook.cells)


def test_compress_your_medsam(tmp_path: Path) -> None:
    done = ran(read(COMPRESS), tmp_path)
    assert pictures(done) == 2
    small, whole = mp.load(tmp_path / "small.safetensors"), mp.zoo.pocket("adapted")
    assert mp.count(small).params < 0.6 * mp.count(whole).params
    # progress is one output that ends where the work ended, and no control characters
    assert "calibration: 1 of 1, took" in (text := told(done))
    assert "\x1b" not in text


def test_compress_a_model_and_a_folder_of_ones_own(tmp_path: Path) -> None:
    torch.save({"model": mp.zoo.pocket("adapted").state_dict()}, tmp_path / "mine.pth")
    for number, sample in enumerate(mp.data.phantoms.make("phantom_skin", seed=9, count=10, size=64)):
        for folder, values in (("images", sample.image), ("masks", 255 * sample.mask.astype(np.uint8))):
            (tmp_path / "skin" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "skin" / folder / f"s{number}.png")
    notebook = read(COMPRESS)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source += '\nCHECKPOINT, FOLDERS, SAMPLES, RECOVER_STEPS = "mine.pth", {"skin": "skin"}, 4, 2'
    done = ran(notebook, tmp_path)
    assert "RecoveryHistory(" in (text := told(done))
    assert "test {'skin': 2}" in text
    assert (tmp_path / "small.safetensors").exists()


def test_your_own_criterion(tmp_path: Path) -> None:
    notebook = read(CRITERION)
    # a reader changes the criterion, and runs its cell again
    place = next(n for n, cell in enumerate(notebook.cells) if "@mp.register_criterion" in cell.source)
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(notebook.cells[place].source))
    notebook.cells.append(nbformat.v4.new_code_cell("mp.__file__"))
    done = ran(notebook, tmp_path)
    assert pictures(done) == 2
    assert all(method in told(done) for method in ("output_norm", "magnitude", "medcore"))
    # the kernel is this environment
    assert str(Path(mp.__file__).parent) in told(done)
    assert os.environ["IPYTHONDIR"].startswith(str(tmp_path))


def test_one_model_of_two_is_refused(tmp_path: Path) -> None:
    notebook = read(CRITERION)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source += '\nCHECKPOINT = "mine.pth"'
    done = run_script("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: medcore reads both models: name CHECKPOINT and REFERENCE\n")
