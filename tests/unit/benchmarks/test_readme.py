import re
import subprocess
import sys
from pathlib import Path

import pytest

from medcore_prune.benchmarks.readme import with_tables
from medcore_prune.errors import MedcorePruneError

ROOT = Path(__file__).resolve().parents[3]
BLOCKS = [
    (name, number, block)
    for name in ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL))
    if "# not run" not in block
]


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


def test_there_are_blocks_to_run() -> None:
    assert {name for name, _, _ in BLOCKS} == {"README.md", "docs/extending.md"}
    assert sum("@register_criterion" in block or "@mp.register_criterion" in block for _, _, block in BLOCKS) == 3


USE = """
import medcore_prune as mp

print(",".join(mp.available_baselines()))
model, images = mp.zoo.pocket("adapted"), {"a": mp.data.phantoms.make("phantom_polyp_a", seed=2, count=2)}
for name in NAMES:
    recipe = mp.get_baseline(name)
    read = {"cache_dir": "cache", "samples": 2, "progress": False}
    statistics = mp.calibrate(model, data=images, needs=recipe.needs, **read) if recipe.needs else None
    print(mp.plan(model, "h50_m70", name, statistics=statistics))
"""


@pytest.mark.parametrize(("name", "number", "block"), BLOCKS, ids=lambda value: str(value)[:12])
def test_python_blocks_run(name: str, number: int, block: str, tmp_path: Path) -> None:
    # a method that a user registers takes part by itself, and what it is made of works
    registered = re.findall(r'@(?:mp\.)?register_(?:criterion|baseline)\("(\w+)"', block)
    (tmp_path / "block.py").write_text(block + (USE.replace("NAMES", repr(registered)) if registered else ""))
    done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    methods = done.stdout.splitlines()[0].split(",") if registered else []
    assert set(registered) <= set(methods)
