"""Peak bytes of tensors by hand, and those that are found without numbers against them."""

import copy
import gc
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune.evaluation.memory import measured, peak_bytes
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.segment_anything import build_sam


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


def forward_and_back(model: nn.Module) -> None:
    size = model.image_encoder.img_size
    loss = low_res_logits(model, torch.rand(2, 3, size, size), torch.zeros(2, 4)).square().mean()
    if float(loss.detach()) >= 0 and bool(loss.isfinite()):
        loss.backward()


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("recompute", [False, True])
def test_without_numbers_it_is_the_same_to_the_byte(attention: str, recompute: bool) -> None:
    model = mp.set_attention(mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m70")), attention)
    with mp.checkpointing(model, on=recompute):
        found = peak_bytes(forward_and_back, model)
        assert all(parameter.grad is None for parameter in model.parameters())
        with measured() as cost:
            forward_and_back(model)
    assert found == cost.peak_bytes


def test_large_models_take_neither_memory_nor_weights() -> None:
    # two images, each with 16 maps of 4096 x 4096 in each of four global blocks
    assert peak_bytes(forward_and_back, build_sam("vit_h", "meta")) > 2 * 4 * 16 * 4096**2 * 4


def test_what_is_written_stays_in_the_copy() -> None:
    model = tiny_sam()
    before = copy.deepcopy(model.state_dict())

    def spoil(other: nn.Module) -> None:
        for parameter in other.parameters():
            parameter.data.fill_(7.0)

    assert peak_bytes(spoil, model) == 0
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


@dataclass(frozen=True)
class Counted:
    """A step that says how often it was run."""

    batch: int
    runs: Callable[[int], None]

    def __call__(self, model: nn.Module) -> Tensor:
        self.runs(self.batch)
        return low_res_logits(model, *tiny_batch(self.batch)[:2])


def test_equal_steps_of_models_that_compute_alike_are_run_once() -> None:
    runs: list[int] = []
    peaks = [peak_bytes(Counted(batch, runs.append), tiny_sam(seed)) for batch, seed in ((1, 0), (1, 1), (2, 0))]
    assert peaks[0] == peaks[1] < peaks[2]
    mp_small = mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m70"))
    assert peak_bytes(Counted(1, runs.append), mp_small) < peaks[0]
    assert peak_bytes(Counted(1, runs.append), mp.set_attention(tiny_sam(), "sdpa")) != peaks[0]
    assert runs == [1, 2, 1, 1]


def test_a_model_with_hooks_is_run_each_time() -> None:
    model, runs = tiny_sam(), []
    model.image_encoder.register_forward_hook(lambda *_: None)
    for _ in range(2):
        peak_bytes(Counted(1, runs.append), model)
    assert runs == [1, 1]
