"""`searched_plan`: the same again, after a stop too, an ordinary plan, and what is refused."""

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import BudgetError, DataError, MedcorePruneError, StatisticsError
from medcore_prune._support.machines.executor import _EXECUTOR
from medcore_prune.correction.search.divergence import Divergence
from medcore_prune.correction.search.refits import DenseSums
from medcore_prune.correction.search.search import Search, draw
from medcore_prune.correction.search.settings import SearchSettings
from medcore_prune.pruning.cost import count
from medcore_prune.pruning.planning import make_plan
from medcore_prune.scoring.recipes import get_baseline

MODEL = tiny_sam()
DATA = {"a": TinySamples("a", 6), "b": TinySamples("b", 4)}
PROBES_OF_TINY = 4 * (3 + 5)
"""In each of its blocks three counts of four heads, and five of the neurons."""


def search(place: Path, goal: str = "h50_m70", criterion: Any = "magnitude", **options: Any) -> mp.Plan:
    given = {"generations": 2, "candidates": 3, "images": 4, "samples": 4, **options}
    return mp.searched_plan(MODEL, goal, criterion, data=DATA, cache_dir=place, progress=False, **given)


def test_the_plan_is_an_ordinary_one_that_says_how_it_was_found(tmp_path: Path) -> None:
    plan = search(tmp_path)
    assert (plan.level, plan.criterion, plan.quotas, plan.protected) == ("h50_m70", "magnitude", "searched", ())
    about = plan.notes["searched"]
    assert about["images"] == 4
    # two starts, and three children in each of two generations
    assert about["states"] == 8
    assert about["probes"] == PROBES_OF_TINY
    assert about["fitness"] == sorted(about["fitness"], reverse=True)
    assert len(about["fitness"]) == 3
    assert about["cost_found"] <= about["cost_target"]
    # what is left is what was searched, and no more than the paper's policy leaves
    left = count(MODEL, plan).params
    assert left - count(MODEL, make_plan(MODEL, "h50_m70")).params == about["cost_found"] - about["cost_target"]
    assert mp.Plan.from_json(plan.to_json()) == plan
    small = mp.prune(MODEL, plan)
    report = mp.correct(small, MODEL, DATA, samples=4, progress=False)
    assert report.stream_error > 0


def test_units_go_in_the_order_of_the_criterion(tmp_path: Path) -> None:
    plan = search(tmp_path)
    scores = mp.unit_scores(get_baseline("magnitude").build(model=MODEL), MODEL)
    for block in plan.blocks:
        for family in ("heads", "neurons"):
            score, kept = scores[block.block, family], list(block.keep(family))
            gone = [unit for unit in range(len(score)) if unit not in kept]
            assert not gone or float(score[gone].max()) <= float(score[kept].min())


def test_the_same_seed_finds_the_same_and_needs_no_cache(tmp_path: Path) -> None:
    first, again = search(tmp_path / "a"), search(tmp_path / "b")
    assert first == again
    assert search(tmp_path / "c", seed=1).notes["searched"]["fitness"] != first.notes["searched"]["fitness"]


def test_a_stopped_search_goes_on_to_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search(tmp_path / "whole")
    asked: list[object] = []
    original = Divergence.of

    def stopping(self: Divergence, model: torch.nn.Module) -> float:
        asked.append(model)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return original(self, model)

    monkeypatch.setattr(Divergence, "of", stopping)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "stopped")
    assert search(tmp_path / "stopped") == whole
    # three states were known, the fourth was not
    every = PROBES_OF_TINY + 8
    assert len(asked) == 4 + every - 3
    assert search(tmp_path / "stopped") == whole
    assert len(asked) == 4 + every - 3
    # other images, another order of units: nothing that is known counts
    search(tmp_path / "stopped", images=2)
    assert len(asked) == 4 + every - 3 + every
    (one, two) = sorted((tmp_path / "stopped" / "searches").glob("*.json"))
    assert json.loads(one.read_text())["inputs"] != json.loads(two.read_text())["inputs"]


class Elsewhere:
    """An executor of another process, as far as what travels goes."""

    apart = True

    def map(
        self, function: Callable[[Any, Any], Iterable[Any]], context: Any, jobs: Mapping[str, Any]
    ) -> Iterator[Any]:
        packed = pickle.dumps(context)
        for job in jobs.values():
            yield from list(function(pickle.loads(packed), pickle.loads(pickle.dumps(job))))


def test_states_that_are_looked_at_elsewhere_give_the_same_plan(tmp_path: Path) -> None:
    token = _EXECUTOR.set(Elsewhere())
    try:
        found = search(tmp_path / "elsewhere")
    finally:
        _EXECUTOR.reset(token)
    assert found == search(tmp_path / "here")
    (one,), (two,) = ((tmp_path / place / "searches").glob("*.json") for place in ("elsewhere", "here"))
    assert one.read_bytes() == two.read_bytes()


def test_what_a_state_is_worth_does_not_depend_on_the_way_to_it(tmp_path: Path) -> None:
    """One file serves all seeds and goals."""
    search(tmp_path)
    search(tmp_path, seed=0, goal="h25_m30")
    assert len(list((tmp_path / "searches").glob("*.json"))) == 1


def test_protected_blocks_stay_whole_where_that_is_asked_for(tmp_path: Path) -> None:
    plan = search(tmp_path, protect=1)
    assert plan.blocks[-1].untouched
    assert plan.protected == (3,)


def test_a_criterion_is_not_asked_for_what_its_quotas_read(tmp_path: Path) -> None:
    needs = get_baseline("residual").with_settings(quotas="searched").needs
    assert needs < get_baseline("residual").needs
    statistics = mp.calibrate(MODEL, None, DATA, samples=3, needs=needs, cache_dir=tmp_path, progress=False)
    plan = search(tmp_path, criterion="residual", statistics=statistics)
    assert (plan.criterion, plan.quotas) == ("residual", "searched")
    with pytest.raises(MedcorePruneError, match="statistics"):
        search(tmp_path, criterion="residual")


def test_where_nothing_may_go_nothing_is_lost_in_whatever_mode_the_model_is(tmp_path: Path) -> None:
    model = tiny_sam()
    model.train()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        plan = mp.searched_plan(
            model, "h0_m0", "magnitude", data=DATA, generations=1, cache_dir=tmp_path, progress=False
        )
    assert plan.notes["searched"]["fitness"] == [0.0, 0.0]
    assert plan.notes["searched"]["probes"] == 0
    assert plan.removed("heads") == plan.removed("neurons") == 0
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_goals_are_refitted_and_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goals: list[tuple[str, str]] = [("h50_m70", "params"), ("params=30%", "params"), ("h50_m50", "flops")]
    once = [search(tmp_path / str(number), goal, cost=cost) for number, (goal, cost) in enumerate(goals)]
    reads, looks = list[int](), list[object]()
    read, of = DenseSums.read, Divergence.of
    monkeypatch.setattr(DenseSums, "read", lambda self, progress: (reads.append(1), read(self, progress))[1])
    monkeypatch.setattr(Divergence, "of", lambda self, model: (looks.append(model), of(self, model))[1])
    settings = SearchSettings(4, 4, 2, 3)
    scores = mp.unit_scores(get_baseline("magnitude").build(model=MODEL), MODEL)
    with Search(
        MODEL, "magnitude", scores, draw(MODEL, DATA, settings), settings, cache_dir=tmp_path / "all", progress=False
    ) as searching:
        assert [searching.plan(*goal) for goal in goals] == once
        # between two plans nothing is left of how they are made
        assert torch.is_grad_enabled()
    assert len(reads) == 1
    assert PROBES_OF_TINY < len(looks) <= PROBES_OF_TINY + 8 * len(goals)


def test_the_model_is_left_as_it_is(tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in MODEL.state_dict().items()}
    search(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in MODEL.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in MODEL.modules())


def test_a_rule_does_not_search() -> None:
    with pytest.raises(BudgetError, match=r"ask searched_plan for the plan"):
        make_plan(MODEL, "h50_m70", quotas="searched")
    with pytest.raises(BudgetError, match=r"ask searched_plan for the plan"):
        mp.plan(MODEL, "h50_m70", get_baseline("magnitude").with_settings(quotas="searched"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"generations": 0}, StatisticsError, "generations is 0: expected at least 1"),
        ({"images": 0}, StatisticsError, "images is 0"),
        ({"goal": "h50"}, BudgetError, "cannot read level 'h50'"),
        ({"goal": "params=99%"}, BudgetError, "at most"),
        ({"protect": 4}, BudgetError, "cannot protect 4 of 4 blocks"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        search(tmp_path, **options)


def test_a_model_without_a_decoder_and_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="searching a budget needs images"):
        mp.searched_plan(MODEL, "h50_m70", "magnitude", data={"a": TinySamples("a", 0)}, cache_dir=tmp_path)
    with pytest.raises(MedcorePruneError, match="mask decoder"):
        mp.searched_plan(MODEL.image_encoder, "h50_m70", "magnitude", data=DATA, cache_dir=tmp_path, progress=False)
