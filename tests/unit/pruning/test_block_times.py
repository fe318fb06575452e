"""Latency as a unit of cost: what is timed, what is read between the sizes, what is kept, and targets that count it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lite import tiny_lite
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import BudgetError, ResultsError
from medcore_prune.correction.search.goal import Goal
from medcore_prune.evaluation.latency import noise
from medcore_prune.models.families import blocks_of
from medcore_prune.models.groups import groups_of
from medcore_prune.pruning import block_times as module
from medcore_prune.pruning.block_times import SIZES, timed_parts
from medcore_prune.pruning.budget import Key
from medcore_prune.pruning.times import BlockTimes, CheckedTime

REST_MS = 5.0
Ran = list[nn.Module]


def law(block: int, family: str, units: int) -> float:
    """What a group takes here: more in later blocks, and of heads a little that no cut takes away."""
    return (block + 1) * (2.0 * units + 1.0 if family == "heads" else 0.05 * units)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Time that follows `law`, whatever the machine does; the models that were run."""
    models: Ran = []

    def timed(model: nn.Module, images: Tensor) -> tuple[dict[Key, float], float]:
        models.append(model)
        parts: dict[Key, float] = {}
        for block in blocks_of(model):
            parts[block.index, "heads"] = law(block.index, "heads", block.num_heads)
            parts[block.index, "neurons"] = law(block.index, "neurons", block.neurons)
        return parts, sum(parts.values()) + REST_MS

    monkeypatch.setattr(module, "timed_parts", timed)
    return models


def encoder_ms(model: nn.Module) -> float:
    """What the whole encoder takes by `law`."""
    return REST_MS + sum(
        law(b.index, "heads", b.num_heads) + law(b.index, "neurons", b.neurons) for b in blocks_of(model)
    )


@pytest.mark.parametrize("make", [tiny_sam, tiny_lite])
def test_every_part_is_timed_once_within_the_whole_run(make: Callable[[], nn.Module]) -> None:
    model = make().eval()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    with torch.no_grad():
        parts, total = timed_parts(model, noise(model, 1)[0])
    assert parts.keys() == {(group.block, group.family) for group in groups_of(model)}
    assert all(ms > 0 for ms in parts.values())
    assert sum(parts.values()) < total
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == hooks


def test_times_of_sizes_between_are_read_off(ran: Ran, tmp_path: Path) -> None:
    model = tiny_sam()
    times = mp.block_times(model, cache_dir=tmp_path, progress=False)
    assert times.rest_ms == pytest.approx(REST_MS)
    for group in groups_of(model):
        for units in (1 if group.family == "heads" else group.n_units // 3, group.n_units):
            part = times.part((group.block, group.family), units)
            assert part == pytest.approx(law(group.block, group.family, units))
    plan = mp.plan(model, "h50_m70", "magnitude")
    small = mp.prune(model, plan)
    assert mp.count(model, times=times).ms == pytest.approx(encoder_ms(model))
    # a plan of the whole model, and the model that is left, are the same cost
    assert mp.count(model, plan, times=times).ms == pytest.approx(encoder_ms(small))
    assert mp.count(small, times=times).ms == pytest.approx(encoder_ms(small))


def test_sizes_run_in_turn_on_copies(ran: Ran, tmp_path: Path) -> None:
    model = tiny_sam()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mp.block_times(model, rounds=2, cache_dir=tmp_path, progress=False)
    neurons = [blocks_of(each)[0].neurons for each in ran]
    assert neurons[:SIZES] == sorted(set(neurons)) == neurons[SIZES : 2 * SIZES]
    assert all(each is not model for each in ran)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_times_are_kept_for_models_of_these_sizes(ran: Ran, tmp_path: Path) -> None:
    model, other = tiny_sam(), tiny_sam(1)
    first = mp.block_times(model, cache_dir=tmp_path, progress=False)
    runs = len(ran)
    again = mp.block_times(other, cache_dir=tmp_path, progress=False)
    assert len(ran) == runs
    assert (again.curves, again.rest_ms, again.path) == (first.curves, first.rest_ms, first.path)
    small = mp.prune(model, mp.plan(model, "h50_m50", "magnitude"))
    mp.block_times(small, cache_dir=tmp_path, progress=False)
    mp.block_times(model, batch=2, cache_dir=tmp_path, progress=False)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        mp.block_times(model, cache_dir=tmp_path, progress=False)
    finally:
        torch.set_num_threads(threads)
    assert len(ran) == 4 * runs
    assert first.path is not None
    first.path.write_text("{}")
    with pytest.raises(ResultsError, match="damaged"):
        mp.block_times(model, cache_dir=tmp_path, progress=False)


def test_noise_does_not_make_more_units_cheaper() -> None:
    assert module._curve([1, 1, 2, 3, 4, 4], [3.0, 5.0, 3.5, 6.0, 5.0, 7.0]) == ((1, 4.0), (2, 4.0), (3, 6.0), (4, 6.0))


@pytest.mark.parametrize(("key", "units"), [((0, "heads"), 0), ((0, "heads"), 4), ((9, "heads"), 2)])
def test_what_was_not_timed_is_not_guessed(key: Key, units: int) -> None:
    times = BlockTimes({(0, "heads"): ((1, 2.0), (3, 4.0))}, 1.0, {})
    assert times.part((0, "heads"), 2) == 3.0
    with pytest.raises(BudgetError, match="measure them anew"):
        times.part(key, units)
    with pytest.raises(BudgetError, match="measure anew"):
        times.encoder_ms({(0, "heads"): 2, (0, "neurons"): 3})


@pytest.mark.parametrize("asked", [{"batch": 0}, {"rounds": 0}])
def test_nothing_is_measured_without_images_or_rounds(asked: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="at least 1"):
        mp.block_times(tiny_sam(), cache_dir=tmp_path, **asked)  # type: ignore[arg-type]


def test_the_automatic_split_meets_a_latency(ran: Ran, tmp_path: Path) -> None:
    model = tiny_sam()
    times = mp.block_times(model, cache_dir=tmp_path, progress=False)
    data = {"a": TinySamples("a", 3)}
    found = mp.automatic_plan(
        model, "latency=30%", "magnitude", data=data, samples=3, protect=1, times=times, progress=False
    )
    removed = 1 - encoder_ms(mp.prune(model, found.plan)) / encoder_ms(model)
    assert removed == pytest.approx(found.removed)
    # within half of what the dearest unit takes
    assert abs(removed - 0.3) <= 4 * 2.0 / encoder_ms(model) / 2 + 1e-9
    with pytest.raises(BudgetError, match="of the encoder's latency can go"):
        mp.automatic_plan(model, "latency=99%", "magnitude", data=data, times=times, progress=False)


def test_a_search_stays_within_a_latency(ran: Ran, tmp_path: Path) -> None:
    model = tiny_sam()
    few = {"samples": 2, "images": 2, "generations": 2, "candidates": 3, "cache_dir": tmp_path, "progress": False}
    plan = mp.searched_plan(model, "latency=30%", "magnitude", data={"a": TinySamples("a", 3)}, **few)  # type: ignore[arg-type]
    left = encoder_ms(mp.prune(model, plan)) / encoder_ms(model)
    assert 0.55 < left <= 0.7
    assert plan.notes["searched"]["cost"] == "latency"
    # a level, at the milliseconds that the paper's policy leaves there
    level = mp.searched_plan(model, "h50_m50", "magnitude", cost="latency", data={"a": TinySamples("a", 3)}, **few)  # type: ignore[arg-type]
    policy = encoder_ms(mp.prune(model, mp.plan(model, "h50_m50", "magnitude")))
    assert encoder_ms(mp.prune(model, level)) <= policy + 1e-9


def test_latency_without_times_is_refused() -> None:
    model = tiny_sam()
    with pytest.raises(BudgetError, match="block times"):
        mp.Target("latency", 0.5).reached(mp.count(model), mp.count(model))
    with pytest.raises(BudgetError, match="unknown cost"):
        Goal.of(model, "h50_m50", "joules", None)


def test_a_prediction_is_held_against_whole_runs(ran: Ran, tmp_path: Path) -> None:
    model = tiny_sam()
    times = mp.block_times(model, cache_dir=tmp_path, progress=False)
    plan = mp.plan(model, "h50_m50", "magnitude")
    small = mp.prune(model, plan)
    checked = times.check(model, small, plan, rounds=3)
    assert checked.predicted == pytest.approx(1 - encoder_ms(small) / encoder_ms(model))
    assert checked.whole_ms > 0
    assert checked.small_ms > 0
    exact = CheckedTime(0.5, 100.0, 50.0)
    assert (exact.removed, exact.error, exact.holds) == (0.5, 0.0, True)
    late = CheckedTime(0.5, 100.0, 60.0)
    assert late.error == pytest.approx(-1 / 6)
    assert not late.holds
    assert late.to_dict()["removed"] == pytest.approx(0.4)
