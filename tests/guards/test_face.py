import pkgutil
from pathlib import Path

import pytest
import torch
from forked import run_script
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import CriterionError, RegistryError
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.criteria.magnitude import Magnitude


def test_everything_at_the_front_door_exists() -> None:
    assert all(hasattr(mp, name) for name in mp.__all__)
    assert callable(mp.plan)


def test_no_name_hides_a_module() -> None:
    # whichever is imported first, `mp.NAME` is the same
    modules = {module.name for module in pkgutil.iter_modules([str(Path(mp.__file__).parent)])}
    assert modules & set(mp.__all__) == {"data", "zoo"}
    assert set(mp.__all__) <= set(dir(mp))


def test_what_is_set_before_anything_is_asked_for_stays() -> None:
    code = "import medcore_prune as mp; mp.load_sam = 1; mp.plan; assert mp.load_sam == 1"
    assert run_script(code).returncode == 0


def test_an_unknown_name_is_no_attribute() -> None:
    assert not hasattr(mp, "nothing")
    assert not hasattr(mp, "_nothing")


def test_a_module_that_is_imported_first_meets_no_half_made_one() -> None:
    code = (
        "import medcore_prune.models.families, medcore_prune as mp; assert mp.cascade and mp.models.families.blocks_of"
    )
    assert run_script(code).returncode == 0


def test_plan_by_name_is_scores_and_budget() -> None:
    model = tiny_sam()
    plan = mp.plan(model, "h50_m50", "magnitude")
    scores = mp.unit_scores(mp.get_baseline("magnitude").build(), model)
    assert plan.hash == mp.make_plan(model, "h50_m50", scores=scores).hash
    assert plan.criterion == "magnitude"
    assert mp.prune(model, plan).image_encoder(torch.zeros(1, 3, 48, 48)).shape == (1, 16, 6, 6)


def test_a_recipe_with_other_settings() -> None:
    model = tiny_sam()
    recipe = mp.get_baseline("magnitude").with_settings(p=1.0)
    scores = mp.unit_scores(recipe.build(), model)
    assert mp.plan(model, "h50_m50", recipe).hash == mp.plan_from_scores(model, "h50_m50", recipe, scores).hash


def test_a_built_in_criterion_by_name_gets_uniform_quotas() -> None:
    assert mp.plan(tiny_sam(), "h25_m50", "random", seed=3).quotas == "uniform"


def test_only_some_blocks() -> None:
    plan = mp.plan(tiny_sam(), "h50_m50", "magnitude", only=(3,))
    assert [block.untouched for block in plan.blocks] == [True, True, True, False]


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(RegistryError, match="magnitude"):
        mp.plan(tiny_sam(), "h50_m50", "magnitud")


def test_all_groups_under_one_cost_budget() -> None:
    model = tiny_sam()
    plan = mp.plan(model, "h50_m50", "magnitude", ranking="global", gamma=1.0, cost="flops")
    assert (plan.quotas, plan.notes["gamma"], plan.notes["cost"]) == ("global", 1.0, "flops")
    assert plan.hash != mp.plan(model, "h50_m50", "magnitude", ranking="global", gamma=0.0).hash
    # a method with sensitivity quotas has none there
    statistics = mp.Statistics.from_tensors(
        {
            "a": {
                name: (torch.ones_like(x.weight), torch.ones_like(x.bias)) for name, x in prunable_layers(model).items()
            }
        }
    )
    assert mp.plan(model, "h50_m50", "vanilla_fisher", statistics=statistics, ranking="global").quotas == "global"


def test_a_class_is_built_and_a_plain_function_is_refused() -> None:
    model = tiny_sam()
    assert mp.plan(model, "h50_m50", Magnitude).hash == mp.plan(model, "h50_m50", "magnitude").hash
    with pytest.raises(CriterionError, match="register a plain function first"):
        mp.plan(model, "h50_m50", lambda group: None)  # type: ignore[arg-type]
