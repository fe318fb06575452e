import torch
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune.models.families import blocks_of
from medcore_prune.pruning.traceable import kept_of, plan_of_cut, units_of


def test_units_are_found_by_all_that_belongs_to_them() -> None:
    rows, columns = torch.tensor([[1.0], [1.0], [2.0], [1.0]]), torch.tensor([[5.0], [6.0], [5.0], [6.0]])
    # of equal ones the first, and in order
    for kept in ((0, 2), (1, 2, 3), (2,), ()):
        assert kept_of([rows[list(kept)], columns[list(kept)]], [rows, columns]) == kept
    assert kept_of([rows[[3]], columns[[3]]], [rows, columns]) == (1,)
    for other in ([rows[[2, 0]], columns[[2, 0]]], [rows[:1], columns[1:2] + 1], [rows[:1, :0], columns[:1]]):
        assert kept_of(other, [rows, columns]) is None


def test_a_cut_is_written_down() -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m70")
    before = [units_of(block) for block in blocks_of(model)]
    mp.prune(model, plan, inplace=True)
    found = plan_of_cut(before)
    assert found is not None
    assert (found.blocks, found.level, found.criterion) == (plan.blocks, "torch-pruning", "")
    with torch.no_grad():
        blocks_of(model)[0].layers["lin2"].weight[:, 0] += 1
    assert plan_of_cut(before) is None
