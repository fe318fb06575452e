"""SAM ViT-B at its own 1024 px, from checkpoint file to Fisher, on a processor with 6 GB to spare.

Random weights in a file of the right format. The steps share what they load; run this file with `-s` to see what each
takes. Below, the whole chain at 256 px.
"""

import gc
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.evaluation.estimates import available_bytes
from medcore_prune.evaluation.memory import measured
from medcore_prune.models.families import encoder_of, geometry_of

NEEDED = 6 * 10**9


def peak_rss_mb(restart: bool = False) -> float:
    """Most memory that this process held since the last restart, in MB; since its start where that is not possible."""
    try:
        if restart:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what a step took."""
    gc.collect()
    peak_rss_mb(restart=True)
    start, busy = time.perf_counter(), time.process_time()
    yield
    took, cpu = time.perf_counter() - start, time.process_time() - busy
    print(f"\n{name}: {took:.1f} s, {cpu:.1f} s of processor, peak RSS {peak_rss_mb():.0f} MB", flush=True)


def write_checkpoint(path: Path) -> None:
    """Write a state dictionary like sam_vit_b_01ec64.pth whose relative positions are not zero."""
    model = mp.build_sam("vit_b", seed=1)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in encoder_of(model).named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=rng))
    torch.save(model.state_dict(), path)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that is removed at the end: the files are large."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    left = available_bytes()
    if left is not None and left < NEEDED:
        pytest.skip(f"SAM ViT-B at 1024 px takes up to {NEEDED / 1e9:.0f} GB, {left / 1e9:.1f} GB are available")
    path = folder / "sam_vit_b_01ec64.pth"
    with step("checkpoint written"):
        write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> nn.Module:
    with step("load_sam"):
        return mp.load_sam("vit_b", checkpoint, attention="sdpa")


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    with step("plan on the meta device"):
        return mp.make_plan(mp.build_sam("vit_b", "meta"), "h50_m70")


@pytest.fixture(scope="module")
def small(model: nn.Module, plan: mp.Plan) -> nn.Module:
    with step("prune h50_m70"):
        return mp.prune(model, plan)


def one_image(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    masks = torch.zeros(1, 1, size, size)
    masks[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    images = 0.5 * torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(3)) + 0.5 * masks
    return images, torch.tensor([[0.25, 0.25, 0.5, 0.5]]) * size, masks.bool()


def test_load_and_prune(model: nn.Module, small: nn.Module, plan: mp.Plan) -> None:
    assert geometry_of(model).image_size == 1024
    whole, cut = mp.count(model), mp.count(small)
    # METHOD section 7: 89.7M and 926.5G, of which h50_m70 leaves 35.8M and 385.2G
    assert (whole.params, round(whole.flops_g, 3)) == (89_670_912, 926.505)
    assert (round(cut.params_m, 1), round(cut.flops_g, 1)) == (35.8, 385.2)
    assert mp.count(model, plan).params == sum(p.numel() for p in encoder_of(small).parameters())


def test_save_and_load(small: nn.Module, plan: mp.Plan, folder: Path) -> None:
    path = folder / "small.safetensors"
    with step("save"):
        mp.save(small, path, plan=plan)
    with step("load"):
        again = mp.load(path)
    expected, got = small.state_dict(), again.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert path.stat().st_size < 4.1 * sum(value.numel() for value in expected.values())


def test_masked_equals_physical(model: nn.Module, plan: mp.Plan) -> None:
    with step("masked and physical forward pass"):
        assert mp.verify(model, plan, one_image(1024)[0]) < 1e-5


def test_fisher_of_one_image(model: nn.Module) -> None:
    # of a pruned model, as when it is scored again after a cut: the whole one takes four times as long
    small = mp.prune(model, mp.make_plan(model, "h84_m95"))
    losses = ("plain",)
    estimate = mp.calibration_estimate(small, samples=1, batch_size=1, losses=losses, checkpointing=True, trial=False)
    mp.require_memory(estimate)
    sums = Accumulator(small, losses=losses)
    with step("Fisher of one image"), mp.checkpointing(small), measured() as cost:
        sums.add(*one_image(1024))
    # nothing is read ahead here, and the sums were there before
    assert 1 <= estimate.per_image["work"] / cost.peak_bytes < 1.01
    assert cost.peak_bytes < 2 * 10**9
    fisher = sums.sums["fisher"]
    assert len(fisher) == 2 * len(prunable_layers(small))
    assert all(bool(torch.isfinite(value).all()) and float(value.min()) >= 0 for value in fisher.values())
    assert all(float(value.max()) > 0 for name, value in fisher.items() if name.endswith("weight"))


def test_whole_chain_at_256_px(tmp_path: Path) -> None:
    torch.save(mp.build_sam("vit_b", image_size=256, seed=1).state_dict(), tmp_path / "adapted.pth")
    model = mp.load_sam("vit_b", tmp_path / "adapted.pth", image_size=256, attention="sdpa")
    data = {"a": TinySamples("a", 2)}
    with mp.checkpointing(model):
        statistics = mp.calibrate(model, data=data, samples=1, cache_dir=tmp_path / "cache", progress=False)
    plan = mp.plan(model, "h84_m95", "zero_fisher", statistics=statistics)
    small = mp.prune(model, plan)
    # METHOD section 7: both counts saturate, at 110 heads and 29,180 neurons of 196,800 and 1,537 parameters each
    assert mp.count(model).params - mp.count(small).params == 110 * 196_800 + 29_180 * 1_537
    mp.save(small, tmp_path / "small.safetensors")
    again = mp.load(tmp_path / "small.safetensors")
    mp.set_attention(again, "sdpa")
    first, second = (mp.evaluate(each, data, progress=False) for each in (small, again))
    assert first.equals(second)
    assert len(first) == 2
