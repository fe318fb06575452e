"""Several threads of one process: each call's result is that of the call alone, or it is refused."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError
from medcore_prune.models.switches import is_checkpointing

MODEL = tiny_sam()
DATA = {name: TinySamples(name, 4) for name in "ab"}
PLAN = mp.make_plan(MODEL, "h50_m50")


def flags(model: nn.Module) -> list[bool]:
    return [value.requires_grad for value in model.parameters()]


def sums(model: nn.Module, name: str, cache: Path) -> torch.Tensor:
    found = mp.calibrate(
        model, None, {name: DATA[name]}, samples=4, batch_size=2, losses=("plain",), cache_dir=cache, progress=False
    )
    return found.fisher(name, "image_encoder.blocks.0.mlp.lin1", lambda_b=0)[0].clone()


def at_once(*runs: Callable[[], object]) -> list[object]:
    start = threading.Barrier(len(runs))

    def run(one: Callable[[], object]) -> object:
        start.wait()
        return one()

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(run, runs))


@pytest.mark.parametrize("copies", [1, 2])
def test_two_calibrations_of_one_model_or_of_two(copies: int, tmp_path: Path) -> None:
    models = [MODEL, MODEL if copies == 1 else tiny_sam()]
    before = flags(MODEL)
    wanted = [sums(MODEL, name, tmp_path / "alone") for name in "ab"]
    for trial in range(3):
        place = tmp_path / f"together{trial}"
        got = at_once(partial(sums, models[0], "a", place), partial(sums, models[1], "b", place))
        assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
        assert all(torch.equal(sums(MODEL, name, place), one) for name, one in zip("ab", wanted, strict=True))
    assert flags(MODEL) == before
    assert not any(part._forward_hooks for part in MODEL.modules())


def test_calls_of_all_kinds_on_one_model(tmp_path: Path) -> None:
    images = tiny_batch()[0]

    def corrected() -> float:
        small = mp.prune(MODEL, PLAN)
        return mp.correct(small, MODEL, {"a": DATA["a"]}, progress=False).stream_error

    def fisher() -> float:
        return float(sums(MODEL, "a", tmp_path / threading.current_thread().name).sum())

    runs: list[Callable[[], float]] = [
        corrected,
        fisher,
        lambda: mp.verify(MODEL, PLAN, images),
        lambda: float(mp.evaluate(MODEL, DATA, progress=False)["dice"].sum()),
    ]
    wanted = [run() for run in runs]
    assert at_once(*runs, *runs) == [*wanted, *wanted]


def test_a_masked_model_is_refused_to_another_thread() -> None:
    with ThreadPoolExecutor(1) as pool, mp.masked(MODEL, PLAN):
        mp.evaluate(MODEL, DATA, progress=False)
        for work in (
            lambda: mp.evaluate(MODEL, DATA, progress=False),
            lambda: mp.prune(MODEL, PLAN),
            lambda: mp.masked(MODEL, PLAN).__enter__(),
            lambda: mp.verify(MODEL.image_encoder, PLAN, tiny_batch()[0]),  # type: ignore[arg-type]
        ):
            with pytest.raises(MedcorePruneError, match="another thread has this model within a `masked` block"):
                pool.submit(work).result(20)
    assert mp.verify(MODEL, PLAN, tiny_batch()[0]) < 1e-5


def test_blocks_that_recompute_overlap() -> None:
    model, inside, leave = tiny_sam(), threading.Event(), threading.Event()

    def other() -> None:
        with mp.checkpointing(model):
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with mp.checkpointing(model):
        thread.start()
        assert inside.wait(20)
    assert is_checkpointing(model)
    leave.set()
    thread.join(20)
    assert not is_checkpointing(model)


def test_threads_that_share_a_predictor_keep_to_their_own_images() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40 + n, 60, 3), dtype=np.uint8) for n in range(3)]
    box = (5.0, 5.0, 40.0, 30.0)
    wanted = [mp.Predictor(MODEL).set_image(image).predict(box) for image in images]
    shared, ready = mp.Predictor(MODEL), threading.Barrier(3)

    def segment(n: int) -> np.ndarray:
        shared.set_image(images[n])
        ready.wait(20)
        return shared.predict(box)

    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(segment, range(3)))
        assert all(map(np.array_equal, got, wanted))
        with pytest.raises(DataError, match="3 other threads have set an image of their own"):
            shared.predict(box)
    with ThreadPoolExecutor(1) as pool:
        one = mp.Predictor(MODEL).set_image(images[0])
        assert np.array_equal(pool.submit(one.predict, box).result(20), wanted[0])
