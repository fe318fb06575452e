"""Running from a block on gives what running the whole network gives, and runs no block before it."""

import copy
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from lite import lite_batch, tiny_lite
from tiny import tiny_batch, tiny_sam
from torch import Tensor, nn

from medcore_prune.calibration.interventions import RiskData, exact_interventions, parts_of, risk, unit_replaced
from medcore_prune.calibration.resumed import Resumed
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.groups import groups_of
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.switches import set_checkpointing

MAKE = {"sam": (tiny_sam, tiny_batch), "tiny_vit": (tiny_lite, lite_batch)}


def counted(model: nn.Module) -> Counter[int]:
    """How often the MLP of each block has run from now on."""
    runs: Counter[int] = Counter()
    for block in blocks_of(model):
        block.layers["lin2"].register_forward_hook(
            lambda *_, place=block.index: runs.update([place])  # type: ignore[misc]
        )
    return runs


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", MAKE)
def test_interventions_are_those_of_whole_runs(kind: str, reset: bool) -> None:
    build, batch = MAKE[kind]
    model, reference = build(0), build(1)
    data = {"a": RiskData(*batch(3)), "b": RiskData(*batch(1, 5))}
    # deepest first, and one block left out
    groups = [group for group in reversed(groups_of(model)) if group.block != 1]
    units = [sorted({group.n_units - 1, 0}) for group in groups]
    found = exact_interventions(
        model, groups, data, reference=reference if reset else None, units=units, batch_size=2, progress=False
    )
    whole = copy.deepcopy(model).eval()
    for name, part in data.items():
        before = risk(whole, part, batch_size=2)
        for group, of_group, costs in zip(groups, units, found[name], strict=True):
            for unit, cost in zip(of_group, costs.tolist(), strict=True):
                source = parts_of(group.in_model(reference)) if reset else None
                with unit_replaced(parts_of(group.in_model(whole)), unit, source):
                    assert cost == pytest.approx(risk(whole, part, batch_size=2) - before, abs=1e-6)
        assert max(float(costs.abs().max()) for costs in found[name]) > 1e-4


def test_blocks_before_the_changed_one_run_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sam()
    runs = counted(model)
    # copies keep their hooks
    last = groups_of(model)[-1]
    monkeypatch.setattr(copy, "deepcopy", lambda value: value)
    exact_interventions(model, [last], {"a": RiskData(*tiny_batch(3))}, units=[range(5)], batch_size=2, progress=False)
    deepest = max(runs)
    # of each of two batches: the whole run, and the way to the block or the run that compares with the whole one
    assert runs == {**dict.fromkeys(range(deepest), 2 * 2), deepest: 2 * (1 + 1 + 5)}


@pytest.mark.parametrize("kind", MAKE)
def test_the_model_is_left_as_it_was(kind: str) -> None:
    build, batch = MAKE[kind]
    model = build(0)
    kept = {name: sorted(module.__dict__) for name, module in model.named_modules()}
    own = blocks_of(model)[0]
    mine = model.get_submodule(own.name).forward
    model.get_submodule(own.name).forward = mine  # type: ignore[method-assign]
    images, boxes, _ = batch(2)
    with torch.no_grad():
        resumed = Resumed(model, partial(low_res_logits, model, images, boxes))
        resumed.start_at(2)
        assert torch.equal(resumed.run(), resumed.whole)
    assert model.get_submodule(own.name).__dict__.pop("forward") is mine
    assert {name: sorted(module.__dict__) for name, module in model.named_modules()} == kept
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_with_recomputed_blocks() -> None:
    model = tiny_sam()
    set_checkpointing(model, True)
    images, boxes, _ = tiny_batch(2)
    with torch.no_grad():
        resumed = Resumed(model, partial(low_res_logits, model, images, boxes))
        resumed.start_at(1)
        assert torch.equal(resumed.run(), resumed.whole)


def test_a_model_that_reads_more_than_the_stream_runs_whole() -> None:
    model = tiny_sam()
    early: list[Tensor] = []
    first = model.get_submodule(blocks_of(model)[0].name)
    first.register_forward_hook(lambda _module, _args, output: early.append(output))

    def add(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + early[-1].mean()

    encoder_of(model).register_forward_hook(add)
    images, boxes, _ = tiny_batch(2)
    with torch.no_grad():
        resumed = Resumed(model, partial(low_res_logits, model, images, boxes))
        resumed.start_at(2)
        group = groups_of(model)[4]
        with unit_replaced(parts_of(group), 0, None):
            found = resumed.run()
            assert torch.equal(found, low_res_logits(model, images, boxes))
        assert not torch.equal(found, resumed.whole)
