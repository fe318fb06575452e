"""A program in a process of its own that says, at its end, whether torch was imported."""

import subprocess
import sys
from collections.abc import Mapping

_PROGRAM = """
import atexit, sys
from importlib import import_module
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
main = import_module(sys.argv[1]).main
sys.argv = sys.argv[2:]
main()
"""


def output_without_torch(module: str, *words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run `main` of a module as a program, and return what it printed; it must end well without importing torch."""
    command = [sys.executable, "-c", _PROGRAM, module, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "False\n")
    return done.stdout
