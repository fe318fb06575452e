"""Refits are what the correction solves for; a state's model is its plan with them put in."""

import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn
from unequal import UnequalFamily, unequal

import medcore_prune as mp
from medcore_prune._support.errors import SurgeryError
from medcore_prune.correction.images import CorrectionImages
from medcore_prune.correction.search.divergence import Divergence, bernoulli_divergence
from medcore_prune.correction.search.refits import DenseSums, Grid, Refits, shapes_of
from medcore_prune.correction.search.states import ladder
from medcore_prune.correction.settings import CorrectionSettings
from medcore_prune.correction.streams import room_for
from medcore_prune.data.frame import Frame
from medcore_prune.data.masks import band_radius, boundary_band
from medcore_prune.models import families
from medcore_prune.models.groups import groups_of
from medcore_prune.models.protocol import batch_of, low_res_logits
from medcore_prune.pruning.planning import plan_of_counts

SETTINGS = CorrectionSettings()
DATA = {"a": TinySamples("a", 5), "b": TinySamples("b", 3)}


def scores(model: nn.Module) -> dict:
    rng = torch.Generator().manual_seed(3)
    return {(g.block, g.family): torch.rand(g.n_units, generator=rng) for g in groups_of(model)}


def everything(model: nn.Module) -> dict:
    return {(g.block, g.family): g.n_units for g in groups_of(model)}


@contextmanager
def refitted(model: nn.Module, limit: float = 1e9) -> Iterator[Refits]:
    order = {key: score.argsort(stable=True) for key, score in scores(model).items()}
    counts = {(g.block, g.family): ladder(g) for g in groups_of(model)}
    with torch.no_grad(), room_for(shapes_of(model, counts), limit) as room:
        refits = Refits(model, order, counts, room)
        images = CorrectionImages(model, DATA, SETTINGS.weighting, 2)
        refits.fit(DenseSums(model, images, refits.groups, limit), SETTINGS, progress=False)
        yield refits


def plan(model: nn.Module, **kept: int) -> mp.Plan:
    """All stays but what is named, such as `heads1=2`."""
    counts = {key: kept.get(f"{key[1]}{key[0]}", n) for key, n in everything(model).items()}
    return plan_of_counts(model, counts, scores(model), level="own")


@pytest.fixture
def family() -> Iterator[None]:
    mp.register_family(UnequalFamily())
    yield
    families.FAMILIES.unregister(UnequalFamily.name)


@pytest.mark.parametrize("asked", [{"heads0": 2}, {"heads0": 1}, {"neurons0": 34}, {"neurons0": 5}])
def test_a_refit_is_what_the_correction_solves(asked: dict[str, int]) -> None:
    """Where one layer of the first block is cut, its inputs in the cut network are those of the dense one."""
    model = tiny_sam()
    (name, count), family = next(iter(asked.items())), next(iter(asked))[:-1]
    group = next(g for g in groups_of(model) if (g.block, g.family) == (0, family))
    assert count in ladder(group), (name, ladder(group))
    corrected = mp.prune(model, plan(model, **asked))
    mp.correct(corrected, model, DATA, batch_size=2, values=False, progress=False)
    with refitted(model) as refits:
        built = refits.of(plan(model, **asked)).build(model)
    expected, got = (each.get_submodule(group.name_out).weight for each in (corrected, built))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        got, mp.prune(model, plan(model, **asked)).get_submodule(group.name_out).weight, atol=1e-3
    )


def test_a_state_is_its_plan_with_refits_and_nothing_else_changes() -> None:
    model = tiny_sam()
    cut = plan(model, heads0=2, neurons1=34, heads3=1, neurons3=5)
    small = mp.prune(model, cut)
    with refitted(model) as refits:
        built = refits.of(cut).build(model)
        changed = {g.name_out for g in groups_of(model) if len(cut.blocks[g.block].keep(g.family)) < g.n_units}
        for name, value in built.state_dict().items():
            layer = name.removesuffix(".weight")
            assert torch.equal(value, small.state_dict()[name]) == (layer not in changed)
    assert len(changed) == 4


def test_a_state_travels_with_its_own_weights_alone() -> None:
    model = tiny_sam()
    with refitted(model) as refits:
        state = refits.of(plan(model, heads0=1))
        packed = pickle.dumps(state)
        weight = state.weights[groups_of(model)[0].name_out]
        assert len(packed) < len(pickle.dumps(state.plan)) + weight.numel() * weight.element_size() + 2000
        built, expected = (each.build(model).state_dict() for each in (pickle.loads(packed), state))
        assert all(torch.equal(value, expected[name]) for name, value in built.items())


def test_little_memory_gives_the_same_refits() -> None:
    model = tiny_sam()
    cut = plan(model, heads0=2, neurons1=34)
    with refitted(model) as one, refitted(model, limit=1.0) as other:
        for name, value in one.of(cut).build(model).state_dict().items():
            assert torch.equal(value, other.of(cut).build(model).state_dict()[name])


def test_the_dense_state_is_worth_nothing_less_and_refits_help(family: None) -> None:
    """On blocks that differ, too: the divergence of the dense model is exactly 0, and a refit lowers a cut's."""
    for model in (tiny_sam(), unequal()):
        with torch.no_grad():
            divergence = Divergence(model, DATA, 2)
        cut = plan(model, heads0=1, neurons1=ladder(groups_of(model)[3])[6])
        with refitted(model) as refits:
            assert divergence.of(refits.of(plan(model)).build(model)) == 0.0
            assert 0 < divergence.of(refits.of(cut).build(model)) < divergence.of(mp.prune(model, cut))


def test_divergence_is_that_of_a_loop_over_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    dense, cut = torch.randn(2, 1, 3, 4, generator=rng), 5 * torch.randn(2, 1, 3, 4, generator=rng)
    got = bernoulli_divergence(dense, cut).flatten()
    for place, (a, b) in enumerate(zip(dense.double().flatten(), cut.double().flatten(), strict=True)):
        p, q = float(a.sigmoid()), float(b.sigmoid())
        expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        assert float(got[place]) == pytest.approx(expected, rel=1e-6)
    assert bool((bernoulli_divergence(dense, dense) == 0).all())
    assert bool(torch.isfinite(bernoulli_divergence(dense * 1e4, -dense * 1e4)).all())


def test_the_contour_counts_six_times_and_each_set_alike() -> None:
    model = tiny_sam()
    small = mp.prune(model, plan(model, heads0=1, neurons1=34))
    expected = 0.0
    with torch.no_grad():
        for samples in DATA.values():
            for sample in samples:
                images, boxes = batch_of([(sample.image, sample.box)], Frame(48))
                dense, cut = (low_res_logits(each, images, boxes) for each in (model, small))
                band = boundary_band(dense > 0, band_radius(dense.shape[-1]))
                each = ((1 + 5 * band) * bernoulli_divergence(dense, cut)).mean()
                expected += float(each) / (2 * len(samples))
        assert Divergence(model, DATA, 2).of(small) == pytest.approx(expected, rel=1e-4)


def test_logits_that_are_not_finite_are_refused() -> None:
    model = tiny_sam()
    with torch.no_grad():
        divergence = Divergence(model, DATA, 2)
        broken = mp.prune(model, plan(model, heads0=1))
        broken.mask_decoder.iou_token.weight.fill_(float("nan"))
        broken.mask_decoder.mask_tokens.weight.fill_(float("nan"))
        with pytest.raises(SurgeryError, match="logits that are not finite"):
            divergence.of(broken)


def test_tokens_in_a_row_are_refused() -> None:
    with pytest.raises(SurgeryError, match=r"blocks\.0\.proj reads 37 tokens an image: expected a square of 6 x 6"):
        Grid(6, 0).fold(torch.zeros(2, 37, 8), 2, "blocks.0.proj")
    images, _, _ = tiny_batch(2)
    assert Grid(48, 0).fold(images.permute(0, 2, 3, 1), 2, "images").shape == (2, 48, 48, 3)
