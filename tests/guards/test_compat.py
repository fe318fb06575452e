"""The order of imports that the documents give, in interpreters that have imported nothing yet."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faq.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("### torchvision does not import")[2].partition("\n### ")[0]
LINES = ["import medcore_prune.compat", "from medcore_prune import plan"]


@pytest.mark.parametrize("first", LINES)
@pytest.mark.parametrize(
    ("library", "then"),
    [
        ("transformers", "from transformers import ViTModel"),
        ("timm", "import timm"),
        ("segment_anything", "from segment_anything import SamPredictor"),
    ],
)
def test_the_documented_line_comes_before_other_libraries(first: str, library: str, then: str) -> None:
    assert f"`{first}`" in SECTION
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = subprocess.run([sys.executable, "-c", f"{first}\n{then}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
