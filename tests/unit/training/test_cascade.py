from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import BudgetError
from medcore_prune.data.splits.split import Split, split
from medcore_prune.models.families import blocks_of
from medcore_prune.models.pairs import require_aligned
from medcore_prune.pruning.plan import Plan
from medcore_prune.pruning.surgery import lineage_of
from medcore_prune.training import cascade as cascading
from medcore_prune.training.cascade import cascade, second_pass
from medcore_prune.training.settings import RecoverySettings
from medcore_prune.training.store import RecoveryStore

RECOVERY = RecoverySettings(steps=4, batch_size=2, learning_rate=2e-3, validate_every=0)


def images() -> Split:
    return split({"a": TinySamples("a", 6), "b": TinySamples("b", 6)}, fractions=(0.5, 0.25, 0.25))


def run(tmp_path: Path, level: str = "h50_m50", criterion: Any = "medcore", **options: Any) -> mp.Cascaded:
    common = {"reference": tiny_sam(1), "data": images(), "recovery": RECOVERY, "samples": 3, "protect": 1}
    return cascade(tiny_sam(), level, criterion, cache_dir=tmp_path, progress=False, **{**common, **options})


def sizes(model: nn.Module) -> list[tuple[int, int]]:
    return [(block.num_heads, block.neurons) for block in blocks_of(model)]


def left(plan: Plan) -> list[tuple[int, int]]:
    return [(len(block.keep_heads), len(block.keep_neurons)) for block in plan.blocks]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_one_shot_without_recovery_is_plan_and_prune(tmp_path: Path) -> None:
    model, reference, data = tiny_sam(), tiny_sam(1), images()
    done = run(tmp_path, schedule="one-shot", recovery=None)
    needs = mp.get_baseline("medcore").needs
    statistics = mp.calibrate(model, reference, data, 3, needs, cache_dir=tmp_path, progress=False)
    plan = mp.plan(model, "h50_m50", "medcore", statistics=statistics, protect=1)
    assert done.plan.hash == plan.hash
    assert same(done.model, mp.prune(model, plan))
    assert same(done.reference, mp.prune(reference, plan))
    assert [(stage.name, stage.history) for stage in done.stages] == [("all", None)]
    assert done.plan.protected == (3,)


def test_heads_go_first_and_neurons_are_scored_on_the_recovered_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[nn.Module, nn.Module]] = []
    calibrate = cascading.calibrate

    def watched(model: nn.Module, reference: nn.Module, *arguments: Any, **options: Any) -> mp.Statistics:
        require_aligned(model, reference)
        seen.append((model, reference))
        return calibrate(model, reference, *arguments, **options)

    monkeypatch.setattr(cascading, "calibrate", watched)
    done = run(tmp_path, head_recovery=replace(RECOVERY, steps=2))
    assert [(stage.name, stage.plan.level) for stage in done.stages] == [("heads", "h50_m0"), ("neurons", "h0_m50")]
    assert [len(stage.history.frame) for stage in done.stages] == [2, 4]
    assert all(stage.seconds > 0 for stage in done.stages)
    (first, _), (second, reference) = seen
    whole = sizes(tiny_sam())
    assert sizes(first) == whole
    # heads have gone, neurons have not, and the weights are not those of a mere cut: they were recovered
    assert [heads for heads, _ in sizes(second)] == [len(block.keep_heads) for block in done.plan.blocks]
    assert [neurons for _, neurons in sizes(second)] == [neurons for _, neurons in whole]
    assert not same(second, mp.prune(tiny_sam(), done.stages[0].plan))
    # while the reference was cut by the same plan and nothing else was done to it
    assert same(reference, mp.prune(tiny_sam(1), done.stages[0].plan))


def test_the_plan_is_in_the_indices_of_the_unpruned_model(tmp_path: Path) -> None:
    done = run(tmp_path, recovery=None)
    assert sizes(done.model) == left(done.plan) == sizes(done.reference)
    assert (done.plan.level, done.plan.protected, done.plan.criterion) == ("h50_m50", (3,), "medcore")
    assert same(done.model, mp.prune(tiny_sam(), done.plan))
    assert same(done.reference, mp.prune(tiny_sam(1), done.plan))
    assert lineage_of(done.model).plan.hash == done.plan.hash
    again = mp.Plan.from_json(done.plan.to_json())
    assert again.hash == done.plan.hash


def test_the_level_counts_units_of_the_whole_encoder_in_both_stages(tmp_path: Path) -> None:
    done = run(tmp_path, "h50_m70", "magnitude", reference=None, recovery=None)
    at_once = run(tmp_path, "h50_m70", "magnitude", reference=None, recovery=None, schedule="one-shot")
    assert left(done.plan) == left(at_once.plan)
    assert [heads for heads, _ in left(done.plan)][3] == 4  # the protected block keeps its four
    assert done.plan.removed("heads") == 8


def test_magnitude_without_recovery_needs_no_second_look(tmp_path: Path) -> None:
    # magnitudes of neurons do not depend on heads, so both schedules cut the same
    done = run(tmp_path, "h50_m50", "magnitude", reference=None, recovery=None)
    assert done.plan.hash == mp.plan(tiny_sam(), "h50_m50", "magnitude", protect=1).hash
    assert done.reference is None


@pytest.mark.parametrize(("level", "names"), [("h50_m0", ["heads"]), ("h0_m50", ["neurons"])])
def test_a_stage_with_nothing_to_cut_is_left_out(tmp_path: Path, level: str, names: list[str]) -> None:
    done = run(tmp_path, level, "magnitude", reference=None)
    assert [stage.name for stage in done.stages] == names
    # the only stage is the last one: its recovery is the whole one
    assert len(done.stages[0].history.frame) == RECOVERY.steps


def test_the_heads_recovery_is_a_quarter_by_default(tmp_path: Path) -> None:
    done = run(tmp_path, criterion="magnitude", reference=None)
    assert [len(stage.history.frame) for stage in done.stages] == [1, 4]


def test_a_correction_comes_after_each_cut_and_before_its_recovery(tmp_path: Path) -> None:
    calls: list[tuple[list[tuple[int, int]], nn.Module]] = []

    def correct(small: nn.Module, teacher: nn.Module, data: Split) -> None:
        calls.append((sizes(small), teacher))
        assert set(data.train) == {"a", "b"}
        with torch.no_grad():
            small.image_encoder.blocks[0].attn.proj.bias.fill_(7.0)

    model = tiny_sam()
    done = cascade(
        model, "h50_m50", "magnitude", data=images(), recovery=None, protect=1, correct=correct, progress=False
    )
    assert [teacher is model for _, teacher in calls] == [True, True]
    assert calls[0][0] != calls[1][0] == sizes(done.model)
    assert (done.model.image_encoder.blocks[0].attn.proj.bias == 7.0).all()
    assert not (model.image_encoder.blocks[0].attn.proj.bias == 7.0).any()


def test_an_object_that_has_read_nothing_is_calibrated_for(tmp_path: Path) -> None:
    criterion = mp.get_criterion("zero")(beta=0.5)
    recipe = mp.Baseline(mp.get_criterion("zero"), {"beta": 0.5})
    plans = [run(tmp_path, criterion=each, recovery=None).plan for each in (criterion, recipe)]
    assert plans[0].hash == plans[1].hash
    assert not criterion.is_bound


def test_models_given_are_left_as_they_are(tmp_path: Path) -> None:
    model, reference = tiny_sam(), tiny_sam(1)
    cascade(
        model,
        "h50_m50",
        "magnitude",
        reference=reference,
        data=images(),
        recovery=RECOVERY,
        cache_dir=tmp_path,
        progress=False,
    )
    assert same(model, tiny_sam())
    assert same(reference, tiny_sam(1))


def test_with_a_store_a_second_run_computes_no_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RecoveryStore(tmp_path / "store")
    first = run(tmp_path, criterion="magnitude", reference=None, store=store)

    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("it was computed again")

    monkeypatch.setattr("medcore_prune.training.store.recover", never)
    again = run(tmp_path, criterion="magnitude", reference=None, store=store)
    assert same(first.model, again.model)


def test_the_second_pass_prunes_the_formerly_protected_blocks_alone(tmp_path: Path) -> None:
    first = run(tmp_path, "h50_m70", schedule="one-shot")
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    options = {"data": images(), "samples": 3, "cache_dir": tmp_path, "progress": False}
    second = second_pass(first, "h75_m50", recovery=None, schedule="one-shot", **options)
    assert left(second.plan)[:3] == left(first.plan)[:3]
    # ratios on that block alone: 4 heads and 96 neurons
    assert left(first.plan)[3] == (4, 96)
    assert left(second.plan)[3] == (1, 48)
    assert second.teacher is first.teacher
    assert sizes(second.model) == left(second.plan) == sizes(second.reference)
    assert lineage_of(second.model).plan.hash == second.plan.hash
    # the recovered weights are what is cut, and the first model stays
    assert same(second.model.image_encoder.neck, first.model.image_encoder.neck)
    assert all(torch.equal(value, first.model.state_dict()[name]) for name, value in before.items())
    assert same(second.reference, mp.prune(tiny_sam(1), second.plan))


def test_the_second_pass_recovers_towards_the_unpruned_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers: list[nn.Module] = []
    recover = cascading.recover

    def watched(model: nn.Module, teacher: nn.Module, *arguments: Any, **options: Any) -> mp.RecoveryHistory:
        teachers.append(teacher)
        return recover(model, teacher, *arguments, **options)

    monkeypatch.setattr(cascading, "recover", watched)
    first = run(tmp_path, criterion="magnitude", reference=None, schedule="one-shot")
    second = second_pass(first, "h50_m50", "magnitude", data=images(), recovery=RECOVERY, progress=False)
    assert [stage.name for stage in second.stages] == ["heads", "neurons"]
    assert teachers == [first.teacher] * 3
    assert sizes(first.teacher) == sizes(tiny_sam())


def test_the_second_pass_takes_a_whole_reference_where_the_first_had_none(tmp_path: Path) -> None:
    first = run(tmp_path, criterion="magnitude", reference=None, recovery=None)
    options = {"data": images(), "samples": 3, "cache_dir": tmp_path, "progress": False}
    second = second_pass(first, "h50_m50", "medcore", reference=tiny_sam(1), recovery=None, **options)
    assert same(second.reference, mp.prune(tiny_sam(1), second.plan))


def test_without_a_protected_block_the_second_pass_must_be_told_which(tmp_path: Path) -> None:
    first = run(tmp_path, criterion="magnitude", reference=None, recovery=None, protect=0)
    with pytest.raises(
        BudgetError, match="the first pass protected no block: name the blocks of the second with only="
    ):
        second_pass(first, "h50_m50", "magnitude", data=images(), recovery=None, progress=False)
    second = second_pass(first, "h50_m50", "magnitude", data=images(), recovery=None, only=(2,), progress=False)
    changed = [a != b for a, b in zip(left(first.plan), left(second.plan), strict=True)]
    assert changed == [False, False, True, False]


def test_an_unknown_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="unknown schedule 'twice': expected one of cascade, one-shot"):
        run(tmp_path, schedule="twice")
