"""Nothing of this package warns, and nothing that it calls warns because of it: every warning is an error here."""

import subprocess
import sys
from pathlib import Path

PRUNES = [
    "medcore_prune.commands.cli",
    "prune",
    "--calibration",
    "1",
    "--method",
    "medcore",
    "--correct",
]
PLANS = ["medcore_prune.benchmarks.cli", "plan", "--model", "pocket"]
PROGRAM = """
import sys
from importlib import import_module
import medcore_prune as mp
assert mp.Level and mp.zoo
main = import_module(sys.argv[1]).main
sys.argv = sys.argv[1:]
main()
"""


def test_commands_end_without_a_warning(tmp_path: Path) -> None:
    for words in (PLANS, [*PRUNES, "--cache", str(tmp_path), "--out", str(tmp_path / "small.safetensors")]):
        command = [sys.executable, "-W", "error", "-c", PROGRAM, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Warning" not in done.stderr
