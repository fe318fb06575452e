"""The tables of README and docs are those that the code and the stored results make."""

from pathlib import Path

import pytest
from forked import run_script

from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.benchmarks.readme import PAGES, with_tables

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_current() -> None:
    # other tests register methods of their own, so look from a fresh process
    code = (
        "from medcore_prune.benchmarks.readme import renewed; from pathlib import Path; "
        "old = [str(path) for path, text in renewed(Path('.')).items() if path.read_text() != text]; "
        "assert not old, f'run `make readme`: {old}'"
    )
    done = run_script(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "names"), PAGES.items())
def test_markers_are_needed(page: str, names: tuple[str, ...]) -> None:
    with pytest.raises(MedcorePruneError, match=f"{names[0]}:start"):
        with_tables("# no markers", names, ROOT / "docs" / "results")
