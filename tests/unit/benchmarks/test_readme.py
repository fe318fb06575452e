import subprocess
import sys
from pathlib import Path

import pytest

from medcore_prune.benchmarks.readme import with_tables
from medcore_prune.errors import MedcorePruneError

ROOT = Path(__file__).resolve().parents[3]


def test_tables_of_the_readme_are_current() -> None:
    # other tests register methods of their own, so look from a fresh process
    code = (
        "from medcore_prune.benchmarks.readme import with_tables; from pathlib import Path; "
        "text = Path('README.md').read_text(); stored = Path('docs/results/claims/claims.json'); "
        "assert with_tables(text, stored) == text, 'run `make readme`'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_markers_are_needed() -> None:
    with pytest.raises(MedcorePruneError, match="commands:start"):
        with_tables("# no markers", ROOT / "docs" / "results" / "claims" / "claims.json")
