import copy

import torch
from tiny import tiny_sam

from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import Lineage, lineage_of, prune, remember


def test_a_model_remembers_its_cuts_in_the_indices_of_the_whole_one() -> None:
    model = tiny_sam()
    assert lineage_of(model) == Lineage()
    first = make_plan(model, "h50_m50")
    once = prune(model, first)
    second = make_plan(once, "h20_m30")
    twice = prune(once, second)
    assert lineage_of(model).plan is None
    assert lineage_of(once).plan == first
    assert lineage_of(twice).plan == first.then(second)
    assert lineage_of(copy.deepcopy(twice)).plan == first.then(second)
    assert prune(once, second, inplace=True) is once
    assert lineage_of(once).plan == first.then(second)


def test_a_plan_is_forgotten_when_something_else_cuts() -> None:
    model = prune(tiny_sam(), make_plan(tiny_sam(), "h50_m50"))
    remember(model, Lineage(lineage_of(model).plan, {"by": "me"}))
    layer = model.image_encoder.blocks[0].mlp.lin1  # type: ignore[union-attr,index]
    layer.weight = torch.nn.Parameter(layer.weight[:7].detach())  # type: ignore[union-attr,index]
    layer.out_features = 7  # type: ignore[union-attr]
    assert lineage_of(model) == Lineage(None, {"by": "me"})
