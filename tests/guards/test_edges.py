"""Inputs at the edge of what can be: flat images, masks of a pixel or at the border, ties, zeros, equal models."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed, TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import BudgetError, MedcorePruneError
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.correction.correct import Corrector
from medcore_prune.correction.settings import CorrectionSettings
from medcore_prune.correction.token_weights import WEIGHTINGS
from medcore_prune.data.frame import Frame
from medcore_prune.data.prompts import box_from_mask
from medcore_prune.data.samples import Sample
from medcore_prune.models.families import blocks_of
from medcore_prune.models.groups import FAMILY_NAMES
from medcore_prune.training.adapt import adapt
from medcore_prune.training.settings import AdaptSettings

SIZE = 48


def sample(name: str, image: np.ndarray, mask: np.ndarray) -> Sample:
    return Sample("a", name, image, mask, box_from_mask(mask), name)


def box_of_pixels(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


FLAT = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
CASES = {
    "flat image": (FLAT, box_of_pixels(10, 10, 30, 30)),
    "black image": (np.zeros_like(FLAT), box_of_pixels(10, 10, 30, 30)),
    "one pixel": (NOISE, box_of_pixels(20, 20, 21, 21)),
    "a corner": (NOISE, box_of_pixels(0, 0, 8, 8)),
    "the other corner": (NOISE, box_of_pixels(40, 40, SIZE, SIZE)),
    "everything": (NOISE, box_of_pixels(0, 0, SIZE, SIZE)),
}


@pytest.mark.parametrize("case", CASES)
def test_calibration_scores_correction_and_metrics_stay_finite(case: str, tmp_path: Path) -> None:
    model, reference = tiny_sam(0), tiny_sam(1)
    images = {"a": Fixed([sample(f"s{index}", *CASES[case]) for index in range(2)])}
    needs = ["fisher", "reference_fisher", "reference_weights", "mean_gradient", "directional_zero", "weighted_gram"]
    statistics = mp.calibrate(model, reference, images, needs=needs, cache_dir=tmp_path, progress=False)
    for name in ("medcore", "taylor", "vanilla_fisher"):
        for scores in mp.unit_scores(
            mp.get_baseline(name).build(statistics, model, reference=reference), model
        ).values():
            assert torch.isfinite(scores).all()
    small = mp.prune(model, mp.plan(model, "h50_m70", "medcore", statistics=statistics))
    mp.correct(small, model, images, progress=False)
    assert all(torch.isfinite(parameter).all() for parameter in small.parameters())
    frame = mp.evaluate(small, images, progress=False)
    figures = frame[["dice", "iou", "bf1", "hd95_px"]]
    assert np.isfinite(figures.to_numpy()).all()


def test_equal_scores_take_the_first_units_whatever_runs() -> None:
    model = tiny_sam()
    scores = {(group.block, group.family): torch.ones(group.n_units) for group in mp.groups_of(model)}
    plans = [mp.make_plan(model, "h50_m50", scores=scores) for _ in range(2)]
    assert plans[0] == plans[1]
    for block, family in itertools.product(plans[0].blocks, FAMILY_NAMES):
        kept = block.keep(family)
        assert list(kept) == list(range(kept[0], kept[0] + len(kept)))


def test_a_fisher_of_zeros_scores_zero_and_needs_uniform_quotas() -> None:
    model = tiny_sam()
    zeros = {
        name: (torch.zeros_like(layer.weight), torch.zeros_like(layer.bias))
        for name, layer in prunable_layers(model).items()
    }
    statistics = mp.Statistics.from_tensors({"a": zeros}, {"a": zeros}, reference_weights=zeros)
    for name in ("medcore", "vanilla_fisher", "zero_fisher_full", "original_medcore"):
        scores = mp.unit_scores(mp.get_baseline(name).build(statistics, model), model)
        assert all(torch.isfinite(values).all() for values in scores.values())
        with pytest.raises(BudgetError, match=r"sensitivity of block 0 is 0.*use uniform quotas"):
            mp.plan(model, "h50_m70", name, statistics=statistics)
        uniform = mp.get_baseline(name).with_settings(quotas="uniform")
        plans = [mp.plan(model, "h50_m70", uniform, statistics=statistics) for _ in range(2)]
        assert plans[0] == plans[1]
        # of equals the first ones go
        assert plans[0].blocks[0].keep("heads") == (2, 3)


def silenced(model: nn.Module, *layers: str) -> nn.Module:
    """Set layers of block 0 to zero, biases included."""
    with torch.no_grad():
        for layer in layers:
            for parameter in blocks_of(model)[0].layers[layer].parameters():
                parameter.zero_()
    return model


@pytest.mark.parametrize("silent", [("lin1",), ("lin1", "lin2"), ("qkv", "proj"), ("proj", "lin2")])
def test_parts_of_a_block_that_are_zero_are_planned_and_corrected(silent: tuple[str, ...], tmp_path: Path) -> None:
    model, reference = silenced(tiny_sam(0), *silent), tiny_sam(1)
    images = {"a": Fixed([sample(f"s{index}", *CASES["a corner"]) for index in range(2)])}
    names = [name for name in mp.available_baselines() if mp.get_baseline(name).criterion.cost != "slow"]
    needs = set().union(*(mp.get_baseline(name).needs for name in names))
    statistics = mp.calibrate(model, reference, images, needs=needs, cache_dir=tmp_path, progress=False)
    for name in names:
        mp.plan(model, "h50_m70", name, statistics=statistics, reference=reference, data=images)
    small = mp.prune(model, mp.make_plan(model, "h50_m70"))
    report = mp.correct(small, model, images, progress=False)
    assert np.isfinite(report.stream_error)
    assert all(torch.isfinite(parameter).all() for parameter in small.parameters())


@pytest.mark.parametrize("name", ["taylor", "disturbed_taylor", "residual", "zero_fisher"])
def test_the_units_of_a_block_that_adds_nothing_score_zero(name: str, tmp_path: Path) -> None:
    model = silenced(tiny_sam(), "qkv", "proj", "lin1", "lin2")
    images = {"a": Fixed([sample(f"s{index}", *CASES["a corner"]) for index in range(2)])}
    recipe = mp.get_baseline(name)
    statistics = mp.calibrate(model, data=images, needs=recipe.needs, cache_dir=tmp_path, progress=False)
    scores = mp.unit_scores(recipe.build(statistics, model, data=images), model)
    for (block, _), values in scores.items():
        assert bool(values.any()) == (block != 0)


@pytest.mark.parametrize("name", ["directional", "residual"])
def test_a_block_that_adds_nothing_goes_first(name: str, tmp_path: Path) -> None:
    model, reference = silenced(tiny_sam(0), "qkv", "proj", "lin1", "lin2"), tiny_sam(1)
    images = {"a": Fixed([sample(f"s{index}", *CASES["a corner"]) for index in range(2)])}
    recipe = mp.get_baseline(name)
    statistics = mp.calibrate(model, reference, images, needs=recipe.needs, cache_dir=tmp_path, progress=False)
    plan = mp.plan(model, "h20_m20", recipe, statistics=statistics)
    # all but one head, and 76.8 of 384 neurons
    assert len(plan.blocks[0].keep_heads) == 1
    assert len(plan.blocks[0].keep_neurons) == 96 - 77
    assert all(len(block.keep_neurons) == 96 for block in plan.blocks[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_of_half_precision_are_cut_alike(dtype: torch.dtype) -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m70")
    half = tiny_sam().to(dtype)
    got, wanted = mp.prune(half, plan).state_dict(), mp.prune(model, plan).state_dict()
    for name, value in wanted.items():
        assert got[name].dtype == (dtype if value.is_floating_point() else value.dtype)
        assert torch.equal(got[name], value.to(got[name].dtype))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_score_that_is_not_a_number_is_refused_by_name(family: str) -> None:
    model = tiny_sam()
    scores = {(group.block, group.family): torch.ones(group.n_units) for group in mp.groups_of(model)}
    scores[0, family][1] = float("nan")  # type: ignore[index]
    with pytest.raises(MedcorePruneError, match=r"not finite|NaN|nan"):
        mp.make_plan(model, "h50_m50", scores=scores)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_by_what_runs_a_model(dtype: torch.dtype, tmp_path: Path) -> None:
    model, half = tiny_sam(), tiny_sam().to(dtype)
    images = {"a": Fixed([sample("s", *CASES["a corner"])])}
    plan = mp.make_plan(model, "h50_m70")
    runs: dict[str, Callable[[], object]] = {
        "model": lambda: mp.calibrate(half, data=images, cache_dir=tmp_path, progress=False),
        "reference": lambda: mp.calibrate(model, half, images, cache_dir=tmp_path, progress=False),
        "pruned model": lambda: mp.correct(mp.prune(half, plan), model, images, progress=False),
        "teacher": lambda: mp.correct(mp.prune(model, plan), half, images, progress=False),
        "model ": lambda: mp.evaluate(half, images, progress=False),
        "model  ": lambda: mp.Predictor(half).set_image(NOISE),
    }
    for what, run in runs.items():
        with pytest.raises(MedcorePruneError, match=rf"the {what.strip()} has weights of {dtype}.*call .float\(\)"):
            run()
    assert not list(tmp_path.iterdir())


def test_double_precision_gives_what_single_precision_gives(tmp_path: Path) -> None:
    images = {"a": TinySamples("a", 3)}
    plan = mp.make_plan(tiny_sam(), "h50_m70")
    found = []
    for number in (torch.float32, torch.float64):
        model, reference = tiny_sam(0).to(number), tiny_sam(1).to(number)
        statistics = mp.calibrate(model, reference, images, cache_dir=tmp_path, progress=False)
        fisher = torch.cat([statistics.fisher("a", name)[0].flatten() for name in prunable_layers(model)])
        small = mp.prune(model, plan)
        errors = [mp.correct(small, model, images, weighting=name, progress=False).stream_error for name in WEIGHTINGS]
        assert {parameter.dtype for parameter in small.parameters()} == {number}
        predictor = mp.Predictor(small).set_image(images["a"][0].image)
        mask = predictor.predict(images["a"][0].box)
        assert mp.verify(model, plan, torch.rand(1, 3, SIZE, SIZE)) < 1e-5
        found.append((fisher, errors, mp.evaluate(small, images, progress=False), mask))
    single, double = found
    assert float((single[0] - double[0]).norm() / double[0].norm()) < 1e-4
    assert single[1] == pytest.approx(double[1], rel=1e-4)
    assert single[2]["dice"].to_numpy() == pytest.approx(double[2]["dice"].to_numpy(), abs=0.01)
    assert (single[3] == double[3]).mean() > 0.99


@pytest.fixture
def default_dtype() -> Iterator[Callable[[torch.dtype], None]]:
    """Sets torch's default dtype, for the test alone."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_default_dtype_is_refused_by_what_runs_a_model(
    dtype: torch.dtype, default_dtype: Callable[[torch.dtype], None], tmp_path: Path
) -> None:
    model, reference, images = tiny_sam(0), tiny_sam(1), {"a": TinySamples("a", 2)}
    small = mp.prune(model, mp.make_plan(model, "h50_m70"))
    weights = {name: value.clone() for name, value in small.state_dict().items()}
    corrector = Corrector(model, images, CorrectionSettings(), progress=False)
    embedded = mp.Predictor(model).set_image(NOISE)
    state = tmp_path / "state.pt"
    runs: list[Callable[[], object]] = [
        lambda: mp.calibrate(model, reference, images, cache_dir=tmp_path, progress=False),
        lambda: mp.evaluate(model, images, progress=False),
        lambda: mp.Predictor(model).set_image(NOISE),
        lambda: embedded.predict(images["a"][0].box),
        lambda: mp.correct(small, model, images, progress=False),
        lambda: corrector.correct(small),
        lambda: mp.recover(small, model, images, progress=False, state_path=state),
        lambda: adapt(small, images, {}, AdaptSettings(steps=1), state),
    ]
    default_dtype(dtype)
    for run in runs:
        with pytest.raises(
            MedcorePruneError, match=rf"^torch's default dtype is {dtype}, .*set_default_dtype"
        ) as caught:
            run()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(value, weights[name]) for name, value in small.state_dict().items())


def test_boxes_do_not_depend_on_the_default_dtype(default_dtype: Callable[[torch.dtype], None]) -> None:
    expected = Frame(1021).box((1, 2, 33, 37), (48, 50))
    for dtype in (torch.float64, torch.bfloat16):
        default_dtype(dtype)
        got = Frame(1021).box((1, 2, 33, 37), (48, 50))
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)


def test_a_teacher_of_another_precision_corrects() -> None:
    teacher, images = tiny_sam().double(), {"a": TinySamples("a", 3)}
    small = mp.prune(tiny_sam(), mp.make_plan(teacher, "h50_m70"))
    assert mp.correct(small, teacher, images, progress=False).stream_error < 0.1
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float32}
