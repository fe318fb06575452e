"""Scripts in processes of their own that need not import torch again: children of one process that has."""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

TESTS = str(Path(__file__).resolve().parent)
# what a script would wait for; the server computes nothing, which torch would not allow its children after that
_IMPORTED = [
    "torch",
    "medcore_prune.training.cascade",
    "medcore_prune.checkpoints.onnx.export",
    "medcore_prune.commands.cli",
]


def _run(script: str, arguments: tuple[str, ...], cwd: str, environment: dict[str, str], said: tuple[str, str]) -> None:
    for number, place in enumerate(said, 1):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(number, "wb", 0), write_through=True) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    sys.path[:0] = [cwd, TESTS]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        os._exit(1)


class Script:
    """A running script."""

    def __init__(
        self, source: str, *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        place = Path(self._folder.name)
        (place / "script.py").write_text(source, encoding="utf-8")
        self._said = place / "out", place / "err"
        known = {**os.environ, "OMP_NUM_THREADS": "1"} if environment is None else dict(environment)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        said = (str(self._said[0]), str(self._said[1]))
        self._process = context.Process(
            target=_run, args=(str(place / "script.py"), arguments, str(cwd or place), known, said)
        )
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, "it does not end"
        out, err = (place.read_text(encoding="utf-8") if place.exists() else "" for place in self._said)
        self._folder.cleanup()
        return subprocess.CompletedProcess([], self._process.exitcode, out, err)


def run_script(
    source: str, *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own; its exit code, negative for a signal, and what it printed."""
    return Script(source, *arguments, cwd=cwd, environment=environment).wait()
