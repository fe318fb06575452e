"""Every block of code in README.md and docs/ works: Python runs, commands exist with their options."""

import ast
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from forked import run_script

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS: dict[str, click.Group] = {"medcore-prune": prune, "medcore-bench": bench}
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# in place of checkpoints and folders that no test can have
STAND_INS = """
import medcore_prune as mp
from functools import partial

mp.load_sam = lambda path: mp.zoo.pocket("reference" if path.startswith("sam_") else "adapted")
mp.data.folder = lambda path: mp.data.phantoms.make("phantom_polyp_a", seed=4, count=12)
mp.recover = partial(mp.recover, settings=mp.RecoverySettings(steps=2, batch_size=2))
"""

# after a block that registers methods: they take part by themselves, and what they are made of works
USE = """
import medcore_prune as mp

assert set(NAMES) <= set(mp.available_baselines())
model, images = mp.zoo.pocket("adapted"), {"a": mp.data.phantoms.make("phantom_polyp_a", seed=2, count=2)}
for name in NAMES:
    recipe = mp.get_baseline(name)
    read = {"cache_dir": "cache", "samples": 2, "progress": False}
    statistics = mp.calibrate(model, data=images, needs=recipe.needs, **read) if recipe.needs else None
    print(mp.plan(model, "h50_m70", name, statistics=statistics))
"""

# after a block that registers experiments: each runs to its page
RUN = """
from medcore_prune.benchmarks.runner.experiment import experiments

for name in NAMES:
    few = ["--quick", "--set", "images=1", "--set", "calibration=1", "--out", name]
    experiments.get(name).command()(few, standalone_mode=False)
    for made in ("report.md", "report.html", "run.json"):
        assert open(f"{name}/{made}").read()
"""


def blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def scripts() -> Iterator[tuple[str, str]]:
    """Pages with their Python; a block that does not import the package goes on from the one before it."""
    for page in PAGES:
        script = ""
        for block in blocks(page, "python"):
            if "import medcore_prune" in block or "from medcore_prune" in block:
                if script:
                    yield page, script
                script = ""
            script += block
        if script:
            yield page, script


SCRIPTS = list(scripts())


def test_there_are_blocks_to_run() -> None:
    pages = {page for page, _ in SCRIPTS}
    tutorials = {"quick_start", "criterion", "compress", "torch_pruning", "extending", "tool", "faq"}
    tutorials |= {"laptop", "lite_medsam", "data_formats", "share", "speed"}
    assert pages == {"README.md", *(f"docs/{name}.md" for name in tutorials)}
    assert sum(len(re.findall(r"@mp\.register_criterion|@register_criterion", script)) for _, script in SCRIPTS) == 5


@pytest.mark.parametrize(("page", "script"), SCRIPTS, ids=lambda value: str(value)[:16])
def test_python_runs(page: str, script: str, tmp_path: Path) -> None:
    registered = re.findall(r'@(?:mp\.)?register_(?:criterion|baseline)\("(\w+)"', script)
    before = STAND_INS if "# your files" in script else ""
    after = USE.replace("NAMES", repr(registered)) if registered else ""
    if ran := re.findall(r'@register_experiment\("(\w+)"', script):
        after += RUN.replace("NAMES", repr(ran))
    environment = {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "PATH": ""}
    done = run_script(before + script + after, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr


def given(block: str) -> list[list[str]]:
    """What a shell would hand to the two programs: loops, variables and quotes are the shell's business."""
    stubs = "".join(f'{name}() {{ printf "%s\\0" {name} "$@"; printf "\\n"; }}\n' for name in PROGRAMS)
    # other programs are not there: what they would end with does not matter, a mistake in the script does
    script = f"{stubs}command_not_found_handle() {{ :; }}\n{block}\n:"
    bash = shutil.which("bash")
    assert bash is not None
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [bash, "-c", script], cwd=place, env={"PATH": "", "HOME": place}, capture_output=True, text=True, check=True
        )
    return [line.rstrip("\0").split("\0") for line in done.stdout.splitlines()]


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in blocks(page, "bash", "text"):
            if "medcore-" in block:
                yield from ((page, words) for words in given(block))


COMMANDS = list(commands())


def test_there_are_commands_to_read() -> None:
    assert {"README.md", "docs/compress.md", "docs/tool.md", "docs/results/README.md"} <= {page for page, _ in COMMANDS}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value[:2])
)
def test_commands_exist_with_their_options(page: str, words: list[str]) -> None:
    program, *rest = words
    group = PROGRAMS[program]
    while rest[:1] == ["--plugin"] and len(rest) > 2:
        # a file of the reader's, which is not there
        rest = rest[2:]
    if not rest or rest[0].startswith("-"):
        # the program alone, for completion, or an option of its own
        context = group.make_context(program, [], resilient_parsing=True)
        assert {*rest} <= {flag for option in group.get_params(context) for flag in option.opts}
        return
    name, *rest = rest
    command = group.get_command(click.Context(group), name)
    assert command is not None, f"{page}: {program} has no {name}"
    # reads every option and its value, and runs nothing
    command.make_context(name, rest, parent=group.make_context(program, [name]))


def test_the_reader_of_blocks_understands_loops_and_variables() -> None:
    block = 'X="--levels h50_m70"\nfor e in plan main; do\n    medcore-bench $e $X \\\n  --out "a b"  # why\ndone\n'
    expected = ["--levels", "h50_m70", "--out", "a b"]
    assert given(block) == [["medcore-bench", "plan", *expected], ["medcore-bench", "main", *expected]]


def test_no_block_is_left_out() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(block)
            assert "not run" not in block, page
