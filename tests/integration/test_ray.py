"""Jobs on a Ray cluster come to the bits of the serial run, whatever is killed or cut meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click import Command
from click.testing import CliRunner
from forked import Script
from nodes import PATIENCE_S, TOKEN, Process, at_work, environment, stop, two_machines, two_nodes, wait_for
from pocket_pair import SIZE, TRAINING, write_images, write_pair, write_training
from safetensors.torch import load_file

import medcore_prune as mp
from medcore_prune._support.machines.executor import executor
from medcore_prune.benchmarks.cli import cli as bench_cli
from medcore_prune.benchmarks.experiments import searched
from medcore_prune.benchmarks.report import page
from medcore_prune.benchmarks.runner import experiment as runner_experiment
from medcore_prune.benchmarks.runner import recover as runner_recover
from medcore_prune.calibration import job
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.commands.cli import cli as prune_cli
from medcore_prune.correction.search.settings import SearchSettings
from medcore_prune.evaluation.latency import Latency
from medcore_prune.scoring.registry import criteria

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc"),
]
__all__ = ["two_machines"]

# a worker or a link that is lost in the middle of a job: the test sees when one is at work
JOBS = """
import sys
from pathlib import Path
import medcore_prune as mp
from medcore_prune._support.machines.executor import machines
from medcore_prune.calibration import job
from tiny import tiny_sam
# three cells of each set and model; here alone, since a cell that travels is whole
job.CELL = 12
place, address = Path(sys.argv[1]), *(sys.argv[2:] or [None])
images = {name: mp.data.phantoms.make(name, seed=7, count=32, size=48) for name in ("phantom_skin", "phantom_polyp_a")}
with machines(address):
    told = {"cache_dir": place, "progress": False}
    mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=32, batch_size=1, **told)
    told |= {"generations": 2, "candidates": 4, "samples": 4, "images": 4}
    plan = mp.searched_plan(tiny_sam(0), "h50_m70", "magnitude", data=images, **told)
    plan.save(place / "plan.json")
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    """A cluster for all that leave it whole, with two GPUs on paper: `auto` of this process, an address for others."""
    from medcore_prune._support.machines.on_ray import cluster

    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        patched.setattr(ray, "init", partial(ray.init, num_cpus=2, num_gpus=2))
        with cluster("auto"), pytest.MonkeyPatch.context() as within:
            within.setattr(ray, "init", lambda *_, **__: None)
            within.setattr(ray, "shutdown", lambda: None)
            yield ray.get_runtime_context().gcs_address


def run_here(command: Command, *words: str) -> None:
    """Give a command in this process, without another import of torch."""
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, (done.output, done.exception)


def finish(process: Process) -> None:
    if isinstance(process, Script):
        done = process.wait(PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said


def contents(folder: Path, *suffixes: str) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.suffix in suffixes and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def jobs_here(place: Path, *address: str) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "CELL", job.CELL)
        patched.setattr(sys, "argv", ["", str(place), *address])
        exec(JOBS, {})
    return results(place)


def results(folder: Path) -> dict[str, bytes]:
    return contents(folder, ".safetensors", ".json")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = jobs_here(tmp_path_factory.mktemp("serial"))
    # the reference's weights, sums of two data sets and models, what states of the search are worth, and the plan
    assert len(found) == 5 + 2
    return found


def kill_a_worker() -> None:
    worker, *_ = wait_for(lambda: at_work(os.getpid()))
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)


@pytest.mark.usefixtures("shared")
def test_a_killed_worker_changes_no_bit(serial: dict[str, bytes], tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill_a_worker)
        assert jobs_here(tmp_path, "auto") == serial
        killed.result()


@contextmanager
def started(*words: str, within: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        words, env=environment() | TOKEN, cwd=within, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        yield process
    finally:
        process.kill()


def test_a_killed_machine_changes_no_bit(
    serial: dict[str, bytes], tmp_path: Path, two_machines: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with two_nodes(two_machines, cores=1) as nodes, nodes.joined(cores=1):
        words = [*nodes.here, sys.executable, "-c", JOBS, str(tmp_path), nodes.address]
        with started(*words, within=tmp_path) as jobs:
            wait_for(lambda: at_work(nodes.other.pid), jobs)
            stop(nodes.other)
            finish(jobs)
    assert results(tmp_path) == serial


@pytest.fixture
def in_tf32() -> Iterator[None]:
    """Products of GPUs in TF32, which a machine without any may be told as well."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts GPUs that are there on paper")
@pytest.mark.usefixtures("shared", "in_tf32")
@pytest.mark.parametrize(("device", "gpus"), [("cuda", ["0", "1"]), ("cpu", ["", ""])])
def test_each_job_has_a_gpu_of_its_own(device: str, gpus: list[str], tmp_path: Path) -> None:
    # nested, so that it is sent as it is
    def seen(place: Path, name: str) -> Iterator[tuple[str, bool]]:
        """Wait for the other, so that both run at the same time."""
        from torch.backends.cuda import matmul

        (place / name).touch()
        until = time.monotonic() + 240
        while len(list(place.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        yield os.environ.get("CUDA_VISIBLE_DEVICES", ""), matmul.fp32_precision == "tf32"

    with mp.machines("auto", device):
        found = list(executor().map(seen, tmp_path, {"one": "one", "two": "two"}))
    # products are those of the command, where they are a GPU's
    assert sorted(found) == [(gpu, device == "cuda") for gpu in gpus]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an adapted model and its reference."""
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name two sets of images."""
    place = tmp_path_factory.mktemp("folders")
    for seed, name in enumerate(("one", "other")):
        write_images(place / name, seed)
    return [word for name in ("one", "other") for word in ("--data", f"{name}={place / name}")]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without pictures, estimates and milliseconds, which take longest, and without seconds, which differ."""
    stage_of = runner_recover._stage

    def timed(models: Mapping[str, object], **_: object) -> dict[str, Latency]:
        return {name: Latency(1.0, 1.0, 1.0, 0, 1, "model", "cpu", 1) for name in models}

    monkeypatch.setattr(page, "_drawn", lambda *_: {})
    monkeypatch.setattr(runner_recover, "compare_latency", timed)
    monkeypatch.setattr(runner_recover, "seconds_per_step", lambda *_: 0.0)
    monkeypatch.setattr(runner_recover, "_stage", lambda stage: stage_of(stage) | {"seconds": 0.0})
    monkeypatch.setattr(runner_experiment, "images_at_a_time", lambda _, most: most)


BASELINES = "baselines --quick --methods magnitude,taylor --levels h50_m70 --no-gallery"
FEW = ["--set", "images=2", "--set", "calibration=2", "--set", "eval_size=32"]


def bench_here(words: str, given: list[str], out: Path, *more: str) -> None:
    run_here(bench_cli, *words.split(), *given, *FEW, "--out", str(out), *more)


@pytest.mark.usefixtures("plain")
def test_a_killed_command_goes_on_to_the_bits_of_the_serial_one(pair: list[str], shared: str, tmp_path: Path) -> None:
    code = "import torch; torch.set_num_threads(1); from medcore_prune.benchmarks.cli import main; main()"
    words = [*BASELINES.split(), *pair, *FEW, "--out", str(tmp_path / "ray"), "--ray", shared]
    killed = Script(code, *words, environment=environment())
    until = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "ray" / "cells" / "own").glob("**/*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    killed.send(signal.SIGKILL)
    assert killed.wait().returncode == -signal.SIGKILL
    bench_here(BASELINES, pair, tmp_path / "ray", "--ray", "auto")
    bench_here(BASELINES, pair, tmp_path / "serial")
    # what JSON files hold besides are seconds
    found, expected = (contents(tmp_path / name, ".safetensors", ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 20


# whoever reads it leaves a word of itself
PLUGIN = """
import os
from pathlib import Path
import torch
import medcore_prune as mp

Path({place!r}, str(os.getpid())).touch()

@mp.register_criterion("own_norm", source="a test")
def own_norm(group: mp.StructuredGroup) -> torch.Tensor:
    return torch.stack([group.layer_out.weight[:, columns].norm() for columns in group.out_cols])
"""


@pytest.mark.usefixtures("shared", "plain")
def test_a_criterion_of_ones_own_reaches_the_workers(pair: list[str], folders: list[str], tmp_path: Path) -> None:
    file, readers = tmp_path / "own_norm.py", tmp_path / "readers"
    readers.mkdir()
    file.write_text(PLUGIN.format(place=str(readers)))
    words = f"baselines --quick --methods own_norm --levels h50_m70 --no-gallery --plugin {file}"
    try:
        bench_here(words, [*pair, *folders], tmp_path / "serial")
        assert {path.name for path in readers.iterdir()} == {str(os.getpid())}
        bench_here(words, [*pair, *folders], tmp_path / "ray", "--ray", "auto")
    finally:
        criteria.unregister("own_norm")
    assert {path.name for path in readers.iterdir()} - {str(os.getpid())}
    found, expected = (contents(tmp_path / name, ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 5


def stored(folder: Path) -> dict[str, bytes]:
    """What a run in `plain` stores but for seconds: its report, what images scored, plans, losses and validations."""
    found = contents(folder, ".csv", ".md", ".html")
    for name in ("plans", "analysis"):
        found |= {f"{name}/{path}": text for path, text in contents(folder / name, ".json").items()}
    # of which the time is all that is not in the file of sums
    found.pop("analysis/calibration.json", None)
    return found


ONE_STEP = "--steps 1 --set validation=1 --set recovery_batch=2"
EXPERIMENTS = {
    "main": f"--one-time h50_m70 --no-sequential --set starts=corrected --set schedule=one-shot {ONE_STEP}",
    "transfer": f"--levels h50_m70 --no-own-plans {ONE_STEP}",
    "ablation": f"--levels h50_m70 --sequential {ONE_STEP}",
    "automatic": "--levels h50_m70 --search --set generations=1 --set samples=1 --set chunk=0.5",
}


@pytest.mark.usefixtures("shared", "plain")
@pytest.mark.parametrize(
    ("experiment", "sets", "elsewhere"),
    [
        ("main", 2, {"model"}),
        ("transfer", 2, {"model"}),
        ("ablation", 1, {"calibration", "evaluation", "model"}),
        ("automatic", 1, {"calibration", "evaluation", "state"}),
    ],
)
def test_an_experiment_elsewhere_comes_to_the_bits_of_the_serial_one(
    experiment: str,
    sets: int,
    elsewhere: set[str],
    pair: list[str],
    folders: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from medcore_prune._support.machines.on_ray import OnRay

    asked: list[str] = []
    original = OnRay.map

    def noted(self: OnRay, function: Any, context: Any, jobs: Mapping[str, Any]) -> Iterator[Any]:
        asked.extend(re.split(r"[ -]", name)[0] for name in jobs)
        return original(self, function, context, jobs)

    monkeypatch.setattr(OnRay, "map", noted)
    # a search of few states
    monkeypatch.setattr(searched, "SearchSettings", partial(SearchSettings, candidates=2))
    words = f"{experiment} --quick {EXPERIMENTS[experiment]}"
    for name, more in (("serial", ()), ("ray", ("--ray", "auto"))):
        bench_here(words, [*pair, *folders[: 2 * sets]], tmp_path / name / experiment, *more)
    assert set(asked) == elsewhere
    found, expected = (stored(tmp_path / name / experiment) for name in ("ray", "serial"))
    assert found == expected
    assert {"report.md", "report.html"} < expected.keys()
    for kind, least in {"evaluations": 5 * sets, "plans": 1, "analysis": 0}.items():
        assert sum(name.startswith(f"{kind}/") for name in expected) > least
    # whoever asks writes results alone
    assert not list((tmp_path / "ray").glob("**/recoveries/*"))


RECOVER = (
    "recover small.safetensors --teacher adapted.pth --data own=own --steps 8 --batch-size 4 --validate-every 2 --out"
)
# what is said at the end is waited for half a minute
HASTY = "from medcore_prune._support.machines import ranks_on_ray\nranks_on_ray.LAST_WORDS_S = 3.0\n"


def recover(place: Path, out: str, *more: str) -> Script:
    return command(place, *RECOVER.split(), out, *more)


def command(place: Path, *words: str) -> Script:
    return Script(TRAINING, *words, cwd=place, environment=environment())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process comes to that accumulates two halves, beside all that a training reads."""
    place = tmp_path_factory.mktemp("training")
    write_training(place)
    finish(recover(place, "one.safetensors", "--accumulate", "2"))
    return place / "one.safetensors"


def same(two: Path, one: Path) -> bool:
    weights, expected = load_file(two), load_file(one)
    assert read_header(two) == read_header(one)
    assert two.with_suffix(".loss.csv").read_bytes() == one.with_suffix(".loss.csv").read_bytes()
    return all(weights[name].equal(value) for name, value in expected.items())


@pytest.mark.usefixtures("shared")
def test_a_model_that_was_pruned_with_a_cluster_is_the_same(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(one.parent)
    words = f"prune adapted.pth --reference reference.pth --data own=own --calibration 4 --image-size {SIZE} --cache"
    for name, more in (("here", ()), ("ray", ("--ray", "auto"))):
        run_here(prune_cli, *words.split(), f"cache-{name}", "--out", f"{name}.safetensors", *more)
    ours, theirs = (one.with_name(f"{name}.safetensors") for name in ("ray", "here"))
    assert read_header(ours) == read_header(theirs)
    weights = load_file(ours)
    assert all(weights[name].equal(value) for name, value in load_file(theirs).items())
    found, expected = (contents(one.parent / f"cache-{name}", ".safetensors") for name in ("ray", "here"))
    assert found == expected
    assert len(expected) > 1


def test_a_training_that_lost_a_process_goes_on_to_the_bits_of_one(one: Path, shared: str) -> None:
    more = ("--ray", shared, "--processes", "2")
    process = recover(one.parent, "two.safetensors", *more)
    wait_for(one.with_name("two.state.pt").exists, process)
    os.kill(at_work(os.getpid())[0], signal.SIGKILL)
    done = process.wait(PATIENCE_S)
    assert done.returncode == 1
    assert "error: another process of this training has ended: give the same command again" in done.stderr
    done = recover(one.parent, "two.safetensors", *more).wait(PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert "recovery: going on after step " in done.stderr
    # the first alone is heard
    assert done.stdout.count("written: two.safetensors") == 1
    assert same(one.with_name("two.safetensors"), one)


def test_jobs_go_on_and_a_training_ends_where_a_machine_is_cut_off(
    one: Path, serial: dict[str, bytes], tmp_path: Path, two_machines: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with two_nodes(two_machines, cores=2) as nodes, ExitStack() as both:
        python = [*nodes.here, sys.executable, "-c"]
        words = [*RECOVER.split(), "far.safetensors", "--ray", nodes.address, "--processes", "2"]
        training = both.enter_context(started(*python, HASTY + TRAINING, *words, within=one.parent))
        wait_for(one.with_name("far.state.pt").exists, training)
        # held in the middle until the link is cut: the other process there, and then a job
        [far] = at_work(nodes.other.pid)
        os.kill(far, signal.SIGSTOP)
        jobs = both.enter_context(started(*python, JOBS, str(tmp_path), nodes.address, within=tmp_path))
        job_there, *_ = wait_for(lambda: set(at_work(nodes.other.pid)) - {far}, jobs)
        os.kill(job_there, signal.SIGSTOP)
        both.enter_context(nodes.joined(cores=1))
        nodes.cut_off()
        _, said = training.communicate(timeout=PATIENCE_S)
        finish(jobs)
    assert results(tmp_path) == serial
    assert training.returncode == 1
    assert "error: a machine of this training is gone: give the same command again" in said
    finish(recover(one.parent, "far.safetensors", "--accumulate", "2"))
    assert same(one.with_name("far.safetensors"), one)


def test_an_adaptation_of_two_processes_comes_to_the_bits_of_one(one: Path, shared: str) -> None:
    words = f"adapt reference.pth --data own=own --steps 4 --batch-size 4 --image-size {SIZE} --out"
    for name, more in (("alone", ("--accumulate", "2")), ("both", ("--ray", shared, "--processes", "2"))):
        finish(command(one.parent, *words.split(), f"{name}.pth", *more))
    found, expected = (torch.load(one.with_name(f"{name}.pth"), weights_only=True) for name in ("both", "alone"))
    assert found["step"] == expected["step"] == 4
    assert list(found["model"]) == list(expected["model"])
    assert all(found["model"][name].equal(value) for name, value in expected["model"].items())
    records = [json.loads(one.with_name(f"{name}.json").read_text()) for name in ("both", "alone")]
    assert records[0]["losses"] == records[1]["losses"]
    assert len(records[0]["losses"]) == 4


def test_more_processes_than_cores_are_refused_at_once(one: Path, shared: str) -> None:
    done = recover(one.parent, "many.safetensors", "--ray", shared, "--processes", "1000").wait(PATIENCE_S)
    assert done.returncode == 1
    assert "cores for 999 processes of 1 threads beside this one: take fewer" in done.stderr
