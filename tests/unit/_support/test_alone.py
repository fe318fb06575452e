"""What one thread works on, another waits for, or is refused."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medcore_prune._support.alone import alone
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.files import write_text_atomic
from medcore_prune._support.generators import seeded


class Thing: ...


def in_thread(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_another_thread_waits_and_the_same_does_not() -> None:
    thing, other, order = Thing(), Thing(), list[str]()

    def late() -> None:
        with alone(other, thing):
            order.append("second")

    with alone(thing):
        thread = in_thread(late)
        with alone(thing, other):
            thread.join(0.05)
        order.append("first")
        assert thread.is_alive()
    thread.join(10)
    assert order == ["first", "second"]


def test_what_an_open_block_holds_is_refused_to_others_and_free_afterwards() -> None:
    thing = Thing()

    def take() -> None:
        with alone(thing):
            pass

    with ThreadPoolExecutor(1) as pool:
        with alone(thing, block="masked"):
            take()
            with pytest.raises(MedcorePruneError, match=r"another thread has this model within a `masked` block"):
                pool.submit(take).result(10)
        pool.submit(take).result(10)


def test_two_that_want_the_same_in_another_order_both_come_through() -> None:
    first, second, done = Thing(), Thing(), list[int]()

    def work(*things: Thing) -> None:
        for _ in range(200):
            with alone(*things):
                done.append(1)

    threads = [in_thread(lambda: work(first, second)), in_thread(lambda: work(second, first))]
    for thread in threads:
        thread.join(20)
    assert len(done) == 400


def test_the_global_generator_is_seeded_by_one_thread_at_a_time() -> None:
    state = torch.get_rng_state()

    def drawn(seed: int) -> torch.Tensor:
        with seeded(seed):
            return torch.cat([torch.rand(50) for _ in range(50)])

    expected = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(torch.equal, pool.map(drawn, range(4)), expected))
    assert torch.equal(torch.get_rng_state(), state)


def test_writing_in_threads_leaves_the_umask(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("written")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write_text_atomic(place / f"{n}.txt", "x"), range(200)))
    (place / "plain").touch()
    assert {path.stat().st_mode for path in place.iterdir()} == {(place / "plain").stat().st_mode}
    assert len(list(place.iterdir())) == 201
