"""Exit codes, and what is said: nothing that was to be expected ends in a traceback."""

import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner
from torch_free import output_without_torch

from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.benchmarks.cli import main as bench_main
from medcore_prune.commands.cli import cli as prune
from medcore_prune.commands.cli import main as prune_main
from medcore_prune.commands.group import Listed, loading

MAINS: dict[str, tuple[Any, Callable[[], None]]] = {
    "medcore-prune": (prune, prune_main),
    "medcore-bench": (bench, bench_main),
}
PROGRAMS = pytest.mark.parametrize("program", MAINS)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a program with words, and optionally with a command `fails` that raises; returns code, output and errors."""

    def run(program: str, *words: str, raises: BaseException | None = None) -> tuple[int, str, str]:
        def command() -> None:
            if raises is not None:
                raise raises

        group, main = MAINS[program]
        module = types.ModuleType("failing")
        module.command = click.command("fails")(command)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "failing", module)
        monkeypatch.setitem(group.listed, "fails", Listed("failing", "Fail"))
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return run


@PROGRAMS
def test_success_is_0(program: str, ended: Callable[..., tuple[int, str, str]]) -> None:
    assert ended(program, "--version")[::2] == (0, "")
    assert ended(program, "fails") == (0, "", "")


@PROGRAMS
@pytest.mark.parametrize("error", [MedcorePruneError("expected this"), PermissionError(13, "Permission denied", "out")])
def test_what_is_refused_is_1_and_one_line(
    program: str, error: Exception, ended: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, said = ended(program, "fails", raises=error)
    assert (code, out) == (1, "")
    assert said in ("error: expected this\n", "error: out: Permission denied\n")


@PROGRAMS
@pytest.mark.parametrize("words", [["no-such-command"], ["fails", "--no-such-option"], ["fails", "too many"]])
def test_wrong_usage_is_2_and_says_where_help_is(
    program: str, words: list[str], ended: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, said = ended(program, *words)
    assert (code, out) == (2, "")
    assert said.startswith("Usage: ")
    assert "--help' for help" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("program", "typed", "meant"),
    [
        ("medcore-prune", "pruen", "prune"),
        ("medcore-prune", "evalute", "evaluate"),
        ("medcore-bench", "basline", "baselines"),
        ("medcore-bench", "recovery", "recovery-study"),
    ],
)
def test_a_mistyped_command_names_the_nearest(
    program: str, typed: str, meant: str, ended: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, said = ended(program, typed)
    assert (code, out) == (2, "")
    assert said.endswith(f"Error: No such command '{typed}'. Did you mean {meant}?\n")


@PROGRAMS
def test_a_command_like_no_other_is_just_not_there(program: str, ended: Callable[..., tuple[int, str, str]]) -> None:
    assert ended(program, "xyz")[2].endswith("Error: No such command 'xyz'.\n")


@PROGRAMS
def test_an_interrupt_is_130(program: str, ended: Callable[..., tuple[int, str, str]]) -> None:
    code, out, said = ended(program, "fails", raises=KeyboardInterrupt())
    assert (code, out) == (130, "")
    assert said.strip().startswith("stopped: ")


@PROGRAMS
def test_a_fault_of_the_program_keeps_its_traceback(program: str, ended: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(ZeroDivisionError):
        ended(program, "fails", raises=ZeroDivisionError())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("medcore_prune.commands.cli", ["medcore-prune", "--help"]),
        ("medcore_prune.benchmarks.cli", ["medcore-bench", "--help"]),
        ("medcore_prune.commands.cli", ["medcore-prune", "--version"]),
    ],
)
def test_help_does_not_wait_for_torch(module: str, words: list[str]) -> None:
    assert output_without_torch(module, *words)


def test_what_processes_do_not_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for group, name in ((prune, "inspect"), (bench, "list")):
        result = CliRunner().invoke(group, [name])
        assert result.exit_code == 2
        assert result.output.splitlines()[-1] == f"Error: {name} works in one process: give it without torchrun"
    # help is help, and one process is as none
    assert CliRunner().invoke(prune, ["inspect", "--help"]).exit_code == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert CliRunner().invoke(bench, ["list"]).exit_code == 0


@pytest.fixture
def collector() -> Iterator[None]:
    """Leave Python's search for garbage as it is."""
    enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_looked_for_again_once_a_command_is_loaded(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled() is enabled
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled() is enabled


@pytest.mark.usefixtures("collector")
def test_only_what_was_there_when_something_was_imported_is_never_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.unfreeze()
    with loading():
        pass
    assert not gc.get_freeze_count()
    with loading():
        monkeypatch.setitem(sys.modules, "a_module_of_this_test", types.ModuleType("a_module_of_this_test"))
    assert gc.get_freeze_count()

    class Cycle:
        pass

    later = Cycle()
    later.itself = later  # type: ignore[attr-defined]
    gone = weakref.ref(later)
    del later
    gc.collect()
    assert gone() is None
