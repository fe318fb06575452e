"""Processes of `torchrun` that train one model come to the bits of one process, whatever is killed meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from forked import TESTS, Script
from pocket_pair import SIZE, TRAINING, write_training
from safetensors.torch import load_file
from tiny import tiny_batch, tiny_sam
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.loop import train as train_alone
from medcore_prune.training.settings import TrainSettings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are killed outright"),
]

TORCHRUN = str(Path(sys.executable).parent / "torchrun")
# what both commands call, on a model that takes milliseconds; words: folder, slices of a batch, what to spoil
TRAIN = """
import json, math, sys
from pathlib import Path
import click, torch
import medcore_prune as mp
from medcore_prune._support.machines.ranks import launched, ranks
from medcore_prune.commands.group import run
from medcore_prune.data.splits.split import FRACTIONS
from medcore_prune.training import objective
from medcore_prune.training.adapt import adapt
from medcore_prune.training.settings import AdaptSettings, RecoverySettings
from tiny import tiny_sam
from tiny_samples import several_boxes

place, slices, spoilt = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
images = lambda seed, count: {"skin": mp.data.phantoms.make("phantom_skin", seed=seed, count=count, size=48)}
seen = 0

def spoil(views):
    global seen
    seen += 1
    loss = original(views)
    if ranks().rank == 1 and seen > 3:
        if spoilt == ["error"]:
            raise mp.MedcorePruneError("process 1 alone found something")
        if spoilt == ["infinite"]:
            return loss * math.inf
    return loss

def drift(self, *given, **more):
    step(self, *given, **more)
    if ranks().rank == 1:
        self.param_groups[0]["params"][0].data.mul_(1.001)

if spoilt == ["drift"]:
    step, torch.optim.AdamW.step = torch.optim.AdamW.step, drift
original = objective.TERMS["dice"].of
if spoilt:
    objective.TERMS["dice"] = objective.Term(spoil)

def train():
    with launched("cpu"):
        other = spoilt == ["images"] and ranks().rank == 1
        data = mp.data.Split(images(3 if other else 1, 6), images(2, 3), {}, 0, FRACTIONS)
        teacher = tiny_sam()
        small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1))
        how = RecoverySettings(steps=6, batch_size=4, learning_rate=3e-3, validate_every=2, accumulate=slices)
        history = mp.recover(small, teacher, data, how, state_path=place / "recovery.pt")
        adapted = tiny_sam(1)
        how = AdaptSettings(steps=3, batch_size=4, validate_every=2, accumulate=slices)
        # images of several objects too
        drawn = {**data.train, "several": several_boxes(3, 3), "many": several_boxes(2, 10, name="many")}
        record = adapt(adapted, drawn, data.validation, how, place / "adaptation.pt")
        told = {"recovery": {**history.to_dict(), "seconds": 0}, "adaptation": {**vars(record), "seconds": 0}}
        # every process ends with the same models
        models = {"small": small.state_dict(), "adapted": adapted.state_dict()}
        torch.save(models, place / f"models-{ranks().rank}.pt")
        if ranks().first:
            (place / "told.json").write_text(json.dumps(told))
            click.echo("done")

sys.argv[1:] = []
run(click.Command("train", callback=train))
"""
# slices that two rounds of three processes share
ROUNDS = """
import sys
import torch
from medcore_prune._support.machines.ranks import launched, ranks
from medcore_prune.training.loop import train
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.settings import TrainSettings
from tiny import tiny_batch, tiny_sam

with launched("cpu"):
    model = tiny_sam()
    settings = TrainSettings(steps=2, learning_rate=1e-2, warmup=1, accumulate=6, precision="fp32")
    train(model, lambda number: Batch(*tiny_batch(2, seed=number)), settings, ranks=ranks())
    torch.save(model.state_dict(), f"{sys.argv[1]}/{ranks().rank}.pt")
    parts = tiny_sam()
    train(parts, lambda number: Batch(*tiny_batch(2, seed=number)), settings, at_a_time=1, ranks=ranks())
    torch.save(parts.state_dict(), f"{sys.argv[1]}/parts-{ranks().rank}.pt")
"""
SOON_S = 60.0
"""What those that are left may take to end when one is dead: they know at once, on a machine that does other work."""


class Said(NamedTuple):
    """What processes ended with and said, in their order."""

    codes: list[int]
    out: list[str]
    err: list[str]


def environment(rank: int, count: int, port: int, attempt: int) -> Mapping[str, str]:
    """What `torchrun` tells its processes."""
    known = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCHELASTIC_RESTART_COUNT": attempt,
        "OMP_NUM_THREADS": 1,
    }
    return {**os.environ, **{name: str(value) for name, value in known.items()}}


class Launched:
    """Processes as `torchrun` starts them, which would import torch in each of them anew.

    With `--max-restarts` it does so `after` others have ended, by the same store.
    """

    def __init__(
        self, count: int, source: str, *words: str, cwd: Path | None = None, after: "Launched | None" = None
    ) -> None:
        self._store = after._store if after else dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        attempt = 1 if after else 0
        self.processes = [
            Script(source, *words, cwd=cwd, environment=environment(rank, count, self._store.port, attempt))
            for rank in range(count)
        ]

    def wait(self, timeout_s: float = 300.0) -> Said:
        done = [process.wait(timeout_s) for process in self.processes]
        return Said(*([getattr(each, name) for each in done] for name in ("returncode", "stdout", "stderr")))


def train(place: Path, count: int, slices: int, *spoilt: str) -> Said:
    place.mkdir(exist_ok=True)
    words = str(place), str(slices), *spoilt
    if count > 1:
        return Launched(count, TRAIN, *words).wait()
    done = Script(TRAIN, *words).wait()
    return Said([done.returncode], [done.stdout], [done.stderr])


def loaded(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def same(place: Path, other: Path, count: int = 2) -> bool:
    """Whether all processes of a run came to the models, losses, scores and moments of another run, to the bit."""
    assert json.loads((place / "told.json").read_text()) == json.loads((other / "told.json").read_text())
    # the models that were kept, and those of the last step with AdamW's moments
    pairs = [(loaded(place / f"models-{rank}.pt"), loaded(other / "models-0.pt")) for rank in range(count)]
    for name in ("recovery.pt", "adaptation.pt"):
        ours, theirs = (loaded(each / name) for each in (place, other))
        pairs += [(ours[part], theirs[part]) for part in ("model", "optimizer")]
    return all(map(equal, *zip(*pairs, strict=True)))


def equal(ours: Any, theirs: Any) -> bool:
    """Whether nested values are the same, tensors to the bit."""
    pairs = zip(tree_leaves(ours), tree_leaves(theirs), strict=True)
    return all(torch.equal(one, two) if isinstance(one, Tensor) else one == two for one, two in pairs)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process comes to that accumulates two halves."""
    place = tmp_path_factory.mktemp("halves")
    done = train(place, 1, 2)
    assert done.codes == [0], done.err
    # something was learnt
    assert json.loads((place / "told.json").read_text())["adaptation"]["best_step"] > 0
    return place


def test_two_processes_come_to_the_bits_of_one_that_accumulates_two_halves(halves: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TRAIN)
    # as a user starts them
    words = [TORCHRUN, "--nproc-per-node", "2", str(script), str(tmp_path), "2"]
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": TESTS}
    done = subprocess.run(words, env=known, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert same(tmp_path, halves)


@pytest.mark.parametrize(("victim", "count"), [(0, 1), (1, 2)])
def test_killed_processes_go_on_to_the_same_bits(victim: int, count: int, halves: Path, tmp_path: Path) -> None:
    run = Launched(2, TRAIN, str(tmp_path), "2")
    until = time.monotonic() + 240
    while not (tmp_path / "recovery.pt").exists():
        assert all(each.running for each in run.processes), run.wait()
        assert time.monotonic() < until
        time.sleep(0.005)
    run.processes[victim].send(signal.SIGKILL)
    done = run.wait(SOON_S)
    assert done.codes == [[-signal.SIGKILL, 1], [1, -signal.SIGKILL]][victim]
    said = "error: another process of this training has ended: give the same command again"
    assert "".join(done.err).count(said) == "".join(done.err).count("\n") == 1
    # with another number of processes too, or restarted by torchrun
    done = train(tmp_path, 1, 2) if count == 1 else Launched(2, TRAIN, str(tmp_path), "2", after=run).wait()
    assert done.codes == [0] * count, done.err
    # the first alone is heard
    assert done.out == ["done\n", ""][:count]
    assert [text.count("recovery: going on after step ") for text in done.err] == [1, 0][:count]
    assert same(tmp_path, halves, count)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (
            "infinite",
            r"error: the loss of step [1-5] is not finite: lower the learning rate; \S+ has the last good state",
        ),
        ("error", "error: process 1 alone found something"),
    ],
)
def test_what_is_wrong_in_one_process_ends_all_with_one_message(spoilt: str, said: str, tmp_path: Path) -> None:
    done = train(tmp_path, 2, 2, spoilt)
    assert done.codes == [1, 1]
    assert re.fullmatch(f"{said}\n", "".join(done.err))


def test_rounds_of_slices_are_summed_in_the_order_of_one_process(tmp_path: Path) -> None:
    done = Launched(3, ROUNDS, str(tmp_path)).wait()
    assert done.codes == [0, 0, 0], done.err
    whole = tiny_sam()
    settings = TrainSettings(steps=2, learning_rate=1e-2, warmup=1, accumulate=6, precision="fp32")
    train_alone(whole, lambda number: Batch(*tiny_batch(2, seed=number)), settings, progress=False)
    for rank in range(3):
        assert equal(loaded(tmp_path / f"{rank}.pt"), dict(whole.state_dict()))
        # a slice that is cut by memory changes by rounding alone, and in all processes alike
        assert equal(loaded(tmp_path / f"parts-{rank}.pt"), loaded(tmp_path / "parts-0.pt"))
    start, end, parts = (
        torch.cat([value.flatten() for value in each.values() if value.is_floating_point()])
        for each in (tiny_sam().state_dict(), whole.state_dict(), loaded(tmp_path / "parts-0.pt"))
    )
    assert (parts - end).norm() < 1e-2 * (end - start).norm()


@pytest.mark.parametrize(
    ("spoilt", "what"), [("images", "images, models, settings or a state"), ("drift", "weights after step 2")]
)
def test_a_process_that_is_not_like_the_first_is_refused(spoilt: str, what: str, tmp_path: Path) -> None:
    done = train(tmp_path, 2, 2, spoilt)
    assert done.codes == [1, 1]
    said = f"error: process 1 has {what} unlike process 0: expected the same files"
    assert "".join(done.err).count(said) == "".join(done.err).count("\n") == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, two checkpoints and a model that was cut from one of them."""
    place = tmp_path_factory.mktemp("commands")
    write_training(place)
    return place


def test_commands_share_a_training(place: Path) -> None:
    words = {
        "adapt": f"adapt reference.pth --data own=own --image-size {SIZE} --steps 2 --batch-size 4 --out",
        "recover": "recover small.safetensors --teacher adapted.pth --data own=own --steps 2 --batch-size 4 --out",
    }
    for name, suffix in (("adapt", "pth"), ("recover", "safetensors")):
        given = words[name].split()
        two = Launched(2, TRAINING, *given, f"two.{suffix}", cwd=place).wait()
        assert two.codes == [0, 0], two.err
        assert two.out[0].count(f"written: two.{suffix}") == 1
        assert (two.out[1], two.err[1]) == ("", "")
        one = Script(TRAINING, *given, f"one.{suffix}", "--accumulate", "2", cwd=place).wait()
        assert one.returncode == 0, one.stderr
    # but for the name of the file itself
    shared = (place / "two.json").read_text().replace("two.pth", "one.pth")
    assert shared == (place / "one.json").read_text()
    assert json.loads((place / "two.json").read_text())["settings"]["accumulate"] == 2
    # safetensors writes what its header holds in any order
    two, one = (place / f"{name}.safetensors" for name in ("two", "one"))
    assert read_header(two) == read_header(one)
    assert equal(load_file(two), load_file(one))
    assert (place / "two.loss.csv").read_bytes() == (place / "one.loss.csv").read_bytes()
    two, one = (loaded(place / f"{name}.pth")["model"] for name in ("two", "one"))
    assert all(torch.equal(value, one[name]) for name, value in two.items())
    assert not list(place.glob("*.state.pt"))
    # and know that it is done
    again = Launched(2, TRAINING, *words["adapt"].split(), "two.pth", cwd=place).wait()
    assert again.codes == [0, 0]
    assert again.out[0].startswith("nothing to do")
    assert again.out[1] == ""
