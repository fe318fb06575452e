"""Peak bytes of tensors by hand."""

import gc
import signal

import pytest
import torch

from medcore_prune.evaluation.latency import measured


def test_peak_is_the_most_alive_at_a_time() -> None:
    with measured() as cost:
        first = torch.zeros(1000)  # 4000 bytes
        second = first + 1  # 8000
        del first
        third = second * 2  # 8000 again
        view = third.view(10, 100)  # shares its storage
        del second
        small = torch.ones(10)  # 4040
    assert cost.peak_bytes == 8000
    assert cost.seconds > 0
    assert view.shape == (10, 100)
    assert small.numel() == 10


def test_changes_in_place_and_what_was_there_before_count_nothing() -> None:
    before = torch.zeros(5000)
    with measured() as cost:
        before.add_(1).mul_(2)
    assert cost.peak_bytes == 0


def _fail() -> None:
    raise ValueError("inside")


def test_an_error_passes() -> None:
    with pytest.raises(ValueError, match="inside"), measured():
        _fail()


def test_a_storage_whose_place_is_used_again_counts_once() -> None:
    with measured() as cost:
        for size in (1000, 500, 1000, 2000, 100):
            torch.zeros(size)  # dies at once, and the next may get its address
    assert cost.peak_bytes == 8000


def _until_interrupted(seconds: float) -> None:
    """Make tensors that die at once, until the interrupt falls anywhere among them."""
    with measured():
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for _ in range(1_000_000):
            torch.zeros(10)


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_is_never_lost() -> None:
    before = signal.signal(signal.SIGALRM, _interrupted)
    # hypothesis, once it has run, is called at every collection, and an interrupt within that is lost
    gc.disable()
    try:
        for place in range(200):
            with pytest.raises(KeyboardInterrupt):
                _until_interrupted(0.001 + 0.00001 * place)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
