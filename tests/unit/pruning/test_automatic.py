"""The automatic split: targets, the path, how near the target is met, and what cannot be met."""

import json

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

from medcore_prune._support.errors import BudgetError, DataError
from medcore_prune.data.frame import Frame
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.evaluation.leverage import Before, BoundaryLeverage
from medcore_prune.models.groups import groups_of
from medcore_prune.models.protocol import input_logits, low_res_logits
from medcore_prune.pruning.automatic import AutomaticPlan, SplitSearch, automatic_plan
from medcore_prune.pruning.budget import Budget
from medcore_prune.pruning.cost import count, unit_costs
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.plan import Plan
from medcore_prune.pruning.planning import plan_from_scores, planner
from medcore_prune.pruning.surgery import masked
from medcore_prune.pruning.target import Target
from medcore_prune.scoring.inputs import Inputs
from medcore_prune.scoring.recipes import scored


@pytest.mark.parametrize(
    ("text", "unit", "fraction"),
    [("params=60%", "params", 0.6), (" FLOPs = 58.4 % ", "flops", 0.584), ("latency=50%", "latency", 0.5)],
)
def test_targets_are_read(text: str, unit: str, fraction: float) -> None:
    target = Target.parse(text)
    assert (target.unit, target.fraction) == (unit, pytest.approx(fraction))
    assert Target.parse(str(target)) == target
    assert Target.parse(target) is target


@pytest.mark.parametrize("text", ["60%", "params=60", "params=0%", "params=100%", "joules=50%", "params=-5%", "", 0.6])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="expected"):
        Target.parse(text)


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_a_share_outside_of_the_open_interval_is_refused(fraction: float) -> None:
    with pytest.raises(BudgetError, match="more than 0 % and less than 100 % of the params"):
        Target("params", fraction)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_sam()


@pytest.fixture(scope="module")
def found(model: nn.Module) -> AutomaticPlan:
    data = {"a": TinySamples("a", 3), "b": TinySamples("b", 5)}
    return automatic_plan(model, "params=40%", "magnitude", data=data, samples=3, protect=1, chunk=0.1, progress=False)


def searching(model: nn.Module, **options: object) -> SplitSearch:
    recipe, scores = scored("magnitude", Inputs(model))
    make = planner(model, recipe, scores, budget=Budget(protect=1))
    return SplitSearch(model, make, [EvaluationSet(TinySamples("a", 3), Frame(48))], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["params", "flops"])
@pytest.mark.parametrize("fraction", [0.013, 0.3])
def test_the_target_is_met_within_a_unit(model: nn.Module, unit: str, fraction: float) -> None:
    target, dense = Target(unit, fraction), count(model)
    plan, path = searching(model, chunk=0.2).run(target, progress=False)
    removed = target.reached(count(model, plan), dense)
    assert removed == path[-1].removed
    one_head = max(c for (_, f), c in unit_costs(model, groups_of(model), unit).items() if f == "heads")
    assert abs(removed - fraction) <= one_head / getattr(dense, unit) / 2


def test_the_path_takes_the_lower_leverage_and_rises(found: AutomaticPlan) -> None:
    removed = [step.removed for step in found.path]
    assert removed == sorted(removed)
    both = [step for step in found.path if len(step.leverage) == 2]
    assert both
    for step in both:
        assert step.leverage[step.family] == min(step.leverage.values())
        assert step.why == "lower leverage"
    assert found.plan.removed("heads") == sum(step.units for step in found.path if step.family == "heads")
    assert found.plan.removed("neurons") == sum(step.units for step in found.path if step.family == "neurons")


def test_the_plan_says_how_it_came_about(found: AutomaticPlan) -> None:
    plan = found.plan
    assert (plan.level, plan.criterion, plan.protected) == ("params=40%", "magnitude", (3,))
    assert plan.blocks[3].untouched
    again = Plan.from_json(plan.to_json())
    assert again.hash == plan.hash
    assert json.loads(json.dumps(again.notes["automatic"]))["path"][0]["family"] == found.path[0].family
    lines = str(found).splitlines()
    assert len(lines) == len(found.path) + 2
    assert lines[-1].startswith("params=40%: ")


def test_the_first_step_is_measured_as_defined(model: nn.Module) -> None:
    search = searching(model, chunk=0.25)
    _, path = search.run(Target("params", 0.3), progress=False)
    images = EvaluationSet(TinySamples("a", 3), Frame(48))
    truth = torch.stack([torch.from_numpy(mask) for mask in images.true_masks])[:, None]

    def logits(plan: Plan) -> torch.Tensor:
        with torch.no_grad(), masked(model, plan):
            batch = next(images.batches(len(images)))
            return input_logits(low_res_logits(model, batch.images, batch.boxes), 256)

    recipe, scores = scored("magnitude", Inputs(model))
    for family, level in (("heads", Level(0.25, 0)), ("neurons", Level(0, 0.25))):
        plan = plan_from_scores(model, level, recipe, scores, protect=1)
        built = BoundaryLeverage(100 * count(model, plan).params_removed(count(model)))
        nothing = plan_from_scores(model, Level(0, 0), recipe, scores, protect=1)
        built.add(Before.of(logits(nothing), truth), logits(plan))
        assert path[0].leverage[family] == pytest.approx(built.quantile(), rel=1e-5)  # type: ignore[index]


@pytest.mark.parametrize("level", ["h0_m0", "h25_m40", "h60_m70"])
def test_a_planner_makes_the_plans_that_are_made_one_by_one(model: nn.Module, level: str) -> None:
    recipe, scores = scored("magnitude", Inputs(model))
    expected = plan_from_scores(model, level, recipe, scores, protect=1)
    assert planner(model, recipe, scores, budget=Budget(protect=1))(level).to_json() == expected.to_json()


def test_a_search_for_a_second_target_measures_nothing_twice(model: nn.Module) -> None:
    search = searching(model, chunk=0.2)
    first, _ = search.run(Target("params", 0.3), progress=False)
    known = dict(search._displaced)
    again, _ = search.run(Target("params", 0.3), progress=False)
    assert again.hash == first.hash
    assert search._displaced == known


def test_the_model_is_left_alone(model: nn.Module) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    searching(model, chunk=0.5).run(Target("params", 0.2), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_everything_that_can_go_does(model: nn.Module) -> None:
    search = searching(model, chunk=0.5)
    most = search.removed(search.most, Target("params", 0.5))
    plan, _ = search.run(Target("params", most), progress=False)
    assert (plan.removed("heads"), plan.removed("neurons")) == search.most


def test_too_much_names_the_most_that_can_go(model: nn.Module) -> None:
    search = searching(model)
    with pytest.raises(BudgetError, match=r"at most (\d+\.\d+) % .* 1 of 4 blocks are protected") as caught:
        search.run(Target("flops", 0.95), progress=False)
    named = float(str(caught.value).split("at most ")[1].split(" %")[0]) / 100
    search.require_reachable(Target("flops", named))
    with pytest.raises(BudgetError):
        search.require_reachable(Target("flops", named + 2e-4))


@pytest.mark.parametrize("chunk", [0.0, 1.5])
def test_a_chunk_is_a_share(model: nn.Module, chunk: float) -> None:
    with pytest.raises(BudgetError, match="chunk"):
        searching(model, chunk=chunk)


@pytest.mark.parametrize("data", [{}, None])
def test_it_needs_images(model: nn.Module, data: object) -> None:
    with pytest.raises(DataError, match="automatic splitting needs images"):
        automatic_plan(model, "params=30%", "magnitude", data=data)  # type: ignore[arg-type]
