"""Folders that may not be written to: every command says so in one line, exit code 1, and leaves nothing behind."""

import json
import os
import sys
from pathlib import Path

import pytest
from forked import run_script

from medcore_prune._support.errors import WriteError
from medcore_prune._support.files import require_writable

# The children of one process that has imported everything. Root may write anywhere, so they give root up first; then
# the refusal is that of the system.
CHILDREN = """
import importlib.util, io, json, os, pkgutil, sys, contextlib, traceback
from pathlib import Path
from tiny import tiny_sam
import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.commands.group import run
from medcore_prune.data.splits.beside import split_file
import medcore_prune.benchmarks, medcore_prune.commands

# a checkout in a folder of one's own cannot be read once root is given up
for package in (medcore_prune.commands, medcore_prune.benchmarks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("onnx", "onnxscript", "onnxruntime"):
    if importlib.util.find_spec(name):
        importlib.import_module(name)

model = tiny_sam()
plan = mp.make_plan(model, "h50_m50")
mp.save(model, "whole.safetensors")
mp.save(mp.prune(model, plan), "small.safetensors")
cli(["phantoms", "--count", "10", "--size", "48", "--out", "set"], standalone_mode=False)
mp.data.split({"own": mp.data.folder("set", name="own")}, seed=5).save(split_file("small.safetensors"))
locked = Path("locked")
locked.mkdir()
(locked / "kept.json").write_text("mine")
locked.chmod(0o555)

sets = ["--data", "own=set"]
pruned = ["prune", "whole.safetensors", "--method", "magnitude", "--calibration", "2", *sets]
commands = {
    "prune": (cli, [*pruned, "--out", "locked/x.safetensors"]),
    "prune --plan-out": (cli, [*pruned, "--out", "ok/x.safetensors", "--plan-out", "locked/x.json"]),
    "prune --cache": (cli, [*pruned, "--cache", "locked/cache", "--out", "y.safetensors"]),
    "evaluate": (cli, ["evaluate", "small.safetensors", *sets, "--out", "locked/e"]),
    "recover": (cli, ["recover", "small.safetensors", "--teacher", "whole.safetensors", *sets, "--out",
                      "locked/r.safetensors"]),
    "adapt": (cli, ["adapt", "pocket", *sets, "--steps", "1", "--out", "locked/a.pth"]),
    "predict": (cli, ["predict", "small.safetensors", "set/images", "--boxes", "set/boxes.csv", "--out",
                      "locked/p"]),
    "inspect": (cli, ["inspect", "small.safetensors", "--out", "locked/b.png"]),
    "export": (cli, ["export", "small.safetensors", *sets, "--out", "locked/onnx"]),
    "phantoms": (cli, ["phantoms", "--out", "locked/phantoms"]),
    "baselines": (bench, ["baselines", "--quick", "--methods", "magnitude", "--out", "locked/out"]),
    "plan": (bench, ["plan", "--out", "locked/plan.csv"]),
    "plan --save": (bench, ["plan", "--save", "locked/plans"]),
}
found = {}
for name, (group, words) in commands.items():
    read, write = os.pipe()
    if not (child := os.fork()):
        os.dup2(write, 2)
        if os.geteuid() == 0:
            os.setuid(65534)
        code = 99
        try:
            run(lambda **_: group.main(words, standalone_mode=False))
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with open(read) as stream:
        said = stream.read()
    found[name] = (os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)
print(json.dumps({"found": found, "left": sorted(path.name for path in locked.iterdir())}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of folders are others on Windows")
def test_every_command_says_in_one_line_that_it_may_not_write(tmp_path: Path) -> None:
    # whoever the children become must be able to reach the folder that they are in
    tmp_path.chmod(0o777)
    done = run_script(CHILDREN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    for name, (code, said) in answer["found"].items():
        assert code == 1, f"{name}: {said}"
        assert "Traceback" not in said
        (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "locked" in error
    assert answer["left"] == ["kept.json"]


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    require_writable(None, tmp_path, tmp_path / "new" / "folder" / "x.json", tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    with pytest.raises(WriteError, match=r"x\.json cannot be written: .*file is a file, expected a folder"):
        require_writable(tmp_path / "file" / "x.json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match=r"x\.json cannot be written: the folder .* may not be written to"):
        require_writable(tmp_path / "new" / "x.json")
