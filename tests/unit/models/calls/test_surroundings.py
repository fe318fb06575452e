"""Blocks around a call change nothing in what it cuts, loads or builds, and a cut is all or nothing."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from torch import nn

import medcore_prune as mp
from medcore_prune.checkpoints.sam import save_training_checkpoint
from medcore_prune.models.families import family_of


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


BLOCKS: list[Callable[[], AbstractContextManager[object]]] = [
    torch.inference_mode,
    torch.no_grad,
    lambda: torch.autocast("cpu", torch.bfloat16),
    lambda: torch.device("meta"),
    deterministic,
    double_by_default,
]


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and value.device == theirs[name].device and torch.equal(value, theirs[name])
        for name, value in ours.items()
    )


def usable(model: nn.Module) -> bool:
    """Whether it takes gradients and, cut again, still runs."""
    again = mp.prune(model, mp.make_plan(model, "h0_m50"))
    again.image_encoder(tiny_batch(1)[0]).sum().backward()  # type: ignore[union-attr,operator]
    return not any(value.is_inference() for value in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_around_the_call_changes_nothing(
    block: Callable[[], AbstractContextManager[object]], tmp_path: Path
) -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m50")
    small = mp.prune(model, plan)
    mp.save(small, tmp_path / "small.safetensors")
    save_training_checkpoint(tmp_path / "whole.pth", model)
    own = copy.deepcopy(model)
    with block():
        cut = mp.prune(model, plan)
        mp.prune(own, plan, inplace=True)
        loaded = mp.load(tmp_path / "small.safetensors")
        whole = mp.load_sam(TINY, tmp_path / "whole.pth")
        built = mp.build_sam(TINY, seed=3)
        again = mp.plan(model, "h50_m50", "magnitude")
    for made in (cut, own, loaded):
        assert same(made, small)
        assert usable(made)
    assert same(whole, model)
    assert usable(whole)
    assert same(built, mp.build_sam(TINY, seed=3))
    assert again.hash == mp.plan(model, "h50_m50", "magnitude").hash


@pytest.mark.parametrize("block", BLOCKS[:5])
def test_a_proof_is_that_of_the_models_own_numbers(block: Callable[[], AbstractContextManager[object]]) -> None:
    model, (images, _, _) = tiny_sam(), tiny_batch()
    plan = mp.make_plan(model, "h50_m50")
    with block():
        assert mp.verify(model, plan, images) < 1e-5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_cut_that_fails_in_the_middle_leaves_the_model(error: type[BaseException]) -> None:
    model, before = tiny_sam(), tiny_sam()
    model.requires_grad_(False)
    family, calls = family_of(model), 0
    own = family.set_num_heads

    def failing(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        own(*args)  # type: ignore[arg-type]

    with patch.object(family, "set_num_heads", failing), pytest.raises(error):
        mp.prune(model, mp.make_plan(model, "h50_m50"), inplace=True)
    assert same(model, before)
    assert [block.num_heads for block in family.blocks(model)] == [4] * 4
    assert not any(value.requires_grad for value in model.parameters())
    assert torch.equal(*(each.image_encoder(tiny_batch(1)[0]) for each in (model, before)))  # type: ignore[union-attr,operator]
