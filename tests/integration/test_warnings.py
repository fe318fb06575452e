"""Nothing of this package warns, and nothing that it calls warns because of it: every warning is an error here."""

import json
import subprocess
import sys
from pathlib import Path

from pocket_pair import write_pair

PRUNES = ["medcore_prune.commands.cli", "prune", "adapted.pth", "--reference", "reference.pth"]
HOW = ["--calibration", "1", "--method", "medcore", "--correct", "--cache", "cache", "--out", "small.safetensors"]
PLANS = ["medcore_prune.benchmarks.cli", "plan", "--model", "pocket"]
PROGRAM = """
import json, sys
from importlib import import_module
import medcore_prune as mp
assert mp.Level and mp.zoo
for words in json.loads(sys.argv[1]):
    sys.argv = words
    try:
        import_module(words[0]).main()
    except SystemExit as ended:
        assert not ended.code, words
"""


def test_commands_end_without_a_warning(tmp_path: Path) -> None:
    write_pair(tmp_path)
    program = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps([PLANS, [*PRUNES, *HOW]])]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    assert (tmp_path / "small.safetensors").is_file()
