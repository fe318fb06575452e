"""Latency: interleaved rounds, what runs, what it reports."""

import dataclasses

import pytest
import torch
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.evaluation import latency
from medcore_prune.evaluation.latency import compare_latency, measure_latency


def test_rounds_are_interleaved_and_warming_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tiny_sam(0), tiny_sam(1)
    order, clock = [], iter(range(1000))
    monkeypatch.setitem(latency.PARTS, "encoder", lambda model, _: order.append("a" if model is first else "b"))
    # a run that begins when the clock shows n takes n + 1 "seconds"
    monkeypatch.setattr(latency.time, "perf_counter", lambda: (n := next(clock)) * (n + 1) // 2)
    found = compare_latency({"a": first, "b": second}, repeats=3, warmup=1)
    assert "".join(order) == "ab" * 4 + "ab"  # and once more each for the memory
    # runs take 1, 5, 9, ... for a and 3, 7, 11, ... for b; the first of each warms up
    assert found["a"].median_ms == pytest.approx(9e3)
    assert (found["a"].p10_ms, found["a"].p90_ms) == pytest.approx((5.8e3, 12.2e3))
    assert found["b"].median_ms == pytest.approx(11e3)
    assert list(found) == ["a", "b"]


def test_one_repeat_is_its_own_percentile() -> None:
    found = measure_latency(tiny_sam(), repeats=1, warmup=0)
    assert found.median_ms == found.p10_ms == found.p90_ms > 0
    assert found.images_per_second == pytest.approx(1e3 / found.median_ms)


@pytest.mark.parametrize("part", list(latency.PARTS))
def test_says_what_was_measured(part: str) -> None:
    found = measure_latency(tiny_sam(), batch=2, repeats=2, warmup=0, part=part)
    assert (found.batch, found.part, found.device) == (2, part, "cpu")
    assert found.threads == torch.get_num_threads()
    assert dataclasses.asdict(found).keys() >= {"median_ms", "peak_bytes"}


def test_memory_of_a_pass() -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h75_m90")
    found = compare_latency({"whole": model, "small": mp.prune(model, plan)}, repeats=1, warmup=0, batch=4)
    # the hidden layer of a block and its activation, four images: 2 x (4, 36, 96) floats, are alive together
    assert found["whole"].peak_bytes > 2 * 4 * 36 * 96 * 4
    assert found["small"].peak_bytes < found["whole"].peak_bytes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MedcorePruneError, match="unknown part 'decoder': expected one of encoder, model"):
        measure_latency(tiny_sam(), part="decoder")
    with pytest.raises(MedcorePruneError, match="batch 0"):
        measure_latency(tiny_sam(), batch=0)
    with pytest.raises(MedcorePruneError, match="repeats 0"):
        measure_latency(tiny_sam(), repeats=0)
