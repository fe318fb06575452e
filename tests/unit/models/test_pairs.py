"""Which model can teach which, whoever asks."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tiny import TINY, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import SurgeryError
from medcore_prune.models.fingerprint import model_hash
from medcore_prune.models.pairs import require_cut_from
from medcore_prune.models.segment_anything import build_sam


def cut(model: nn.Module) -> nn.Module:
    return mp.prune(model, mp.plan(model, "h50_m50", "magnitude"))


def correct(small: nn.Module, teacher: nn.Module) -> Any:
    return mp.correct(small, teacher, TinySamples("a", 2), progress=False)


def recover(small: nn.Module, teacher: nn.Module) -> Any:
    settings = mp.RecoverySettings(steps=1, batch_size=2, validate_every=0)
    return mp.recover(small, teacher, TinySamples("a", 2), settings, progress=False)


def test_what_was_cut_has_its_parent_for_a_teacher() -> None:
    whole = tiny_sam()
    small = cut(whole)
    for parent in (whole, copy.deepcopy(small), mp.prune(whole, mp.make_plan(whole, "h0_m10"))):
        require_cut_from(small, parent)


@pytest.mark.parametrize("takes", [correct, recover])
def test_the_two_in_the_other_order_are_refused_and_stay_as_they_are(takes: Callable[..., Any]) -> None:
    whole = tiny_sam()
    small = cut(whole)
    before = model_hash(whole), model_hash(small)
    with pytest.raises(
        SurgeryError, match=r"block 0 has 4 heads and 96 neurons, the teacher's 2 .* pruned model first"
    ):
        takes(whole, small)
    assert (model_hash(whole), model_hash(small)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "attention windows"),
        ({"global_blocks": (0, 1)}, "attention windows"),
        ({"image_size": 64}, "differ in size"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SurgeryError, match=message):
        require_cut_from(tiny_sam(), build_sam(replace(TINY, **change)))
