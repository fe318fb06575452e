"""Making plans: which units go, and what is refused."""

import dataclasses
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medcore_prune._support.errors import BudgetError
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.budget import Budget, Key
from medcore_prune.pruning.cost import unit_costs
from medcore_prune.pruning.level import ONE_TIME_LEVELS
from medcore_prune.pruning.plan import Plan
from medcore_prune.pruning.planning import make_plan, plan, plan_from_scores
from tests.tiny import TINY

MODEL = build_sam(TINY, device="meta")  # 4 blocks x 4 heads x 96 neurons; the last block is protected by default


def random_scores(seed: int = 0, group_size: int = 1) -> dict[Key, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {(g.block, g.family): torch.rand(g.n_units, generator=rng) for g in groups_of(MODEL, group_size)}


def kept(plan: Plan) -> list[tuple[int, int]]:
    return [(len(block.keep_heads), len(block.keep_neurons)) for block in plan.blocks]


def test_lowest_scores_go_first() -> None:
    scores = random_scores()
    scores[1, "heads"] = torch.tensor([0.9, 0.1, 0.8, 0.2])
    plan = make_plan(MODEL, "h38_m0", scores=scores, criterion_name="mine")
    # 6.08 -> 6 of 16 heads over 3 blocks
    assert plan.blocks[1].keep_heads == (0, 2)
    assert kept(plan) == [(2, 96), (2, 96), (2, 96), (4, 96)]
    assert (plan.criterion, plan.quotas, plan.level, plan.protected) == ("mine", "uniform", "h38_m0", (3,))


def test_ties_go_by_index() -> None:
    flat = {key: torch.zeros_like(score) for key, score in random_scores().items()}
    flat[0, "heads"] = torch.tensor([0.0, -0.0, 0.0, -1.0])
    plan = make_plan(MODEL, "h38_m10", scores=flat)
    assert plan.blocks[0].keep_heads == (1, 2)
    assert plan.blocks[1].keep_heads == (2, 3)
    assert plan.blocks[1].keep_neurons == tuple(range(13, 96))  # 38.4 -> 38 over 3: 12.67 -> 13, block 0 one less


def test_ranked_scores_say_which_blocks_give_units() -> None:
    scores = {key: score + 10 * (key[0] != 1) for key, score in random_scores().items()}
    plan = make_plan(MODEL, "h38_m50", scores=scores, quotas="ranked")
    uniform = make_plan(MODEL, "h38_m50", scores=scores)
    # 6 heads and 192 neurons go, of block 1 all but the minimum of 1 head and 5 neurons
    assert kept(plan)[1] == (1, 5)
    assert kept(plan)[3] == (4, 96)
    assert [sum(part) for part in zip(*kept(plan), strict=True)] == [10, 192]
    assert [sum(part) for part in zip(*kept(uniform), strict=True)] == [10, 192]
    assert plan.quotas == "ranked"
    # of the other blocks the lowest scores of all go
    heads = torch.cat([scores[block, "heads"] for block in (0, 2)])
    gone = [4 * place + h for place, b in enumerate((0, 2)) for h in range(4) if h not in plan.blocks[b].keep_heads]
    assert sorted(gone) == sorted(heads.argsort()[:3].tolist())


def test_ranked_scores_saturate_like_any_quotas() -> None:
    assert kept(make_plan(MODEL, "h90_m95", scores=random_scores(), quotas="ranked")) == [(1, 5)] * 3 + [(4, 96)]


def test_ranked_needs_scores() -> None:
    with pytest.raises(BudgetError, match="ranked' needs scores"):
        make_plan(MODEL, "h50_m50", quotas="ranked")


def test_the_pocket_shape_tells_the_named_levels_apart() -> None:
    pocket = build_sam("pocket", device="meta")
    assert [(g.n_units) for g in groups_of(pocket)] == [12, 480] * 12
    hashes = {str(level): make_plan(pocket, level).hash for level in ONE_TIME_LEVELS}
    # both ask for more heads and neurons than can go: one plateau, METHOD section 7
    assert hashes.pop("h84_m95") == hashes["h80_m95"]
    assert len(set(hashes.values())) == len(hashes) == 5


def test_a_saturated_level_notes_what_was_asked() -> None:
    plan = make_plan(MODEL, "h80_m95")
    assert plan.notes["requested"] == {"heads": 13, "neurons": 365}
    assert plan.notes["saturated"] == ["heads", "neurons"]
    assert plan.effective_fraction("heads") == 9 / 16
    assert plan.effective_fraction("neurons") == 3 * 91 / 384
    with pytest.raises(BudgetError, match=r"level h80_m95, heads: .* only 9 can go"):
        make_plan(MODEL, "h80_m95", strict=True)


def test_no_scores_give_the_counts_and_the_first_indices() -> None:
    counted = make_plan(MODEL, "h38_m30")
    assert kept(counted) == kept(make_plan(MODEL, "h38_m30", scores=random_scores()))
    assert counted.blocks[0].keep_heads == (2, 3)


def test_neurons_go_in_groups() -> None:
    scores = random_scores(group_size=8)
    scores[0, "neurons"] = torch.arange(12.0).flip(0)
    plan = make_plan(MODEL, "h0_m25", scores=scores, mlp_group_size=8)
    assert kept(plan) == [(4, 64), (4, 64), (4, 64), (4, 96)]  # 12 of 48 groups
    assert plan.blocks[0].keep_neurons == tuple(range(64))
    assert plan.notes["requested"]["neurons"] == 96
    # ceil(5 %) of 96 is 5 neurons: one group of 8
    assert [neurons for _, neurons in kept(make_plan(MODEL, "h0_m95", mlp_group_size=8))] == [8, 8, 8, 96]


def test_a_second_pass_cuts_its_blocks_alone() -> None:
    plan = make_plan(MODEL, "h50_m50", only=(2, 3))
    assert kept(plan) == [(4, 96), (4, 96), (2, 48), (2, 48)]
    assert (plan.only, plan.protected) == ((2, 3), ())
    assert plan.effective_fraction("heads") == 0.5


def test_sensitivity_moves_the_quota() -> None:
    equal = make_plan(MODEL, "h0_m30", quotas="sensitivity", sensitivity=[2.0] * 4)
    assert kept(equal) == kept(make_plan(MODEL, "h0_m30"))
    skewed = make_plan(MODEL, "h0_m30", quotas="sensitivity", sensitivity=[1.0, 4.0, 16.0, 1.0])
    # 115.2 -> 115 in the ratio 4 : 2 : 1
    assert [96 - neurons for _, neurons in kept(skewed)] == [66, 33, 16, 0]
    assert (skewed.quotas, skewed.notes["tau"]) == ("sensitivity", 0.5)
    flat = make_plan(MODEL, "h0_m30", quotas="sensitivity", sensitivity=[1.0, 4.0, 16.0, 1.0], tau=0)
    assert kept(flat) == kept(make_plan(MODEL, "h0_m30"))


def test_protection_can_be_chosen() -> None:
    assert make_plan(MODEL, "h30_m30", protect=0).protected == ()
    assert make_plan(MODEL, "h30_m30", protect=2).protected == (2, 3)
    for protect in (4, 9, -1):
        with pytest.raises(BudgetError, match=f"cannot protect {protect} of 4 blocks: expected 0 to 3"):
            make_plan(MODEL, "h30_m30", protect=protect)


def test_models_are_not_touched() -> None:
    model = build_sam(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_plan(model, "h50_m70", scores=random_scores(), ranking="global")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def spent(plan: Plan, cost: str) -> int:
    costs = unit_costs(MODEL, groups_of(MODEL), cost)
    return sum(
        (block.size(family) - len(block.keep(family))) * costs[block.block, family]
        for block in plan.blocks
        for family in ("heads", "neurons")
    )


@pytest.mark.parametrize("cost", ["params", "flops"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, None])
def test_global_ranking_spends_the_uniform_budget(cost: str, gamma: float | None) -> None:
    plan = make_plan(MODEL, "h40_m30", scores=random_scores(), ranking="global", gamma=gamma, cost=cost)
    budget = spent(make_plan(MODEL, "h40_m30"), cost)
    dearest = max(unit_costs(MODEL, groups_of(MODEL), cost).values())
    assert budget <= spent(plan, cost) < budget + dearest
    assert plan.quotas == "global"
    assert plan.notes["gamma"] == (1.0 if gamma is None else gamma)


def test_global_ranking_keeps_the_minimum_and_the_protected() -> None:
    scores = random_scores()
    scores[0, "heads"], scores[0, "neurons"] = torch.full((4,), -5.0), torch.full((96,), -5.0)
    scores[3, "heads"], scores[3, "neurons"] = torch.full((4,), -9.0), torch.full((96,), -9.0)
    plan = make_plan(MODEL, "h40_m30", scores=scores, ranking="global", gamma=0)
    assert kept(plan)[0] == (1, 5)
    assert kept(plan)[3] == (4, 96)


def test_gamma_favours_keeping_what_is_cheap() -> None:
    # with gamma 1 a head's score is divided by its larger cost, so that heads go earlier
    counts = [
        make_plan(MODEL, "h40_m30", scores=random_scores(), ranking="global", gamma=gamma).removed("heads")
        for gamma in (0.0, 1.0)
    ]
    assert counts[0] < counts[1]


def test_gamma_is_refused_where_it_cannot_act() -> None:
    with pytest.raises(BudgetError, match="gamma acts only under ranking='global'"):
        make_plan(MODEL, "h40_m30", scores=random_scores(), gamma=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "half"}, "cannot read level 'half'"),
        ({"quotas": "equal"}, "unknown quotas 'equal': expected one of uniform, sensitivity"),
        ({"ranking": "layer"}, "unknown ranking 'layer': expected one of block, global"),
        ({"quotas": "sensitivity"}, "need the sensitivity of every block"),
        ({"quotas": "sensitivity", "sensitivity": [1.0]}, "got 1 sensitivities for 4 blocks"),
        ({"ranking": "global"}, "needs scores"),
        ({"ranking": "global", "scores": {}}, r"no scores for heads of block 0.*\(6 groups in all\)"),
        ({"ranking": "global", "scores": random_scores(), "quotas": "sensitivity"}, "leave quotas at 'uniform'"),
        ({"ranking": "global", "scores": random_scores(), "gamma": math.nan}, "gamma is nan"),
        ({"ranking": "global", "scores": random_scores(), "cost": "joules"}, "unknown cost 'joules'"),
        ({"only": ()}, "expected at least one block between 0 and 3"),
        ({"only": (4,)}, "expected at least one block between 0 and 3"),
        ({"only": (3,), "protect": 1}, "leave `protect` out"),
        ({"mlp_group_size": 7}, "does not divide"),
        ({"scores": {(0, "heads"): torch.zeros(4)}}, "no scores for"),
        ({"scores": {(9, "heads"): torch.zeros(4)}}, r"scores for \(9, 'heads'\) belong to no group"),
        ({"scores": random_scores() | {(1, "heads"): torch.zeros(3)}}, r"heads in block 1 have shape \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        make_plan(MODEL, **{"level": "h40_m30", **options})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_by_name(value: float) -> None:
    scores = random_scores()
    scores[2, "neurons"][[5, 7]] = value
    with pytest.raises(BudgetError, match="neurons in block 2 are not finite at 2 of 96 units, first 5"):
        make_plan(MODEL, "h40_m30", scores=scores)


def test_families_that_are_not_cut_need_no_scores() -> None:
    heads = {key: score for key, score in random_scores().items() if key[1] == "heads" and key[0] < 3}
    assert make_plan(MODEL, "h40_m0", scores=heads).removed("heads") == 6


@pytest.mark.parametrize("way", [make_plan, plan, plan_from_scores])
def test_every_way_to_a_plan_has_the_defaults_of_the_budget(way: Callable[..., Plan]) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Budget) if field.name != "level"}
    given = {name: each.default for name, each in inspect.signature(way).parameters.items() if name in fields}
    assert given == {name: fields[name] for name in given}
    assert given.keys() == fields.keys() - (set() if way is make_plan else {"quotas", "tau", "strict"})
