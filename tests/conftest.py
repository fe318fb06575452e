"""Fixtures shared by every ring of tests."""

import os
from pathlib import Path

import pytest
import torch

import medcore_prune.compat  # noqa: F401  # before any test imports segment_anything by itself

# tests run side by side, one process a core
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real image sets, or a skip that says how to supply one."""
    place = Path(os.environ.get("MEDCORE_PRUNE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (place / "kvasir_seg" / "manifest.csv").exists():
        pytest.skip(f"no real images at {place}: set MEDCORE_PRUNE_DATA to a folder that holds kvasir_seg/")
    return place
