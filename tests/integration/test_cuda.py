"""A GPU gives what a CPU gives, to the rounding of single precision, and takes what was begun on the other.

Everything that computes runs on both; where no GPU is, all of it is skipped.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from click.testing import CliRunner
from pocket_pair import write_pair
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.calibration.collector import Need, prunable_layers
from medcore_prune.commands.cli import cli
from medcore_prune.evaluation.estimates import available_bytes
from medcore_prune.models.fingerprint import computation_hash
from medcore_prune.models.precision import default_precision
from medcore_prune.training.pool import Pool

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: nothing to compare a CPU with")

IMAGES = {"a": TinySamples("a", 4), "b": TinySamples("b", 3)}
SPLIT = mp.data.split({"a": TinySamples("a", 12)})
NEEDS = [need for need in vars(Need).values() if isinstance(need, Need)]
STEPS = mp.RecoverySettings(steps=4, batch_size=2, validate_every=2)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    # cuDNN's convolutions round their inputs to ten bits unless told otherwise
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on_gpu(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(GPU)


def far(first: torch.Tensor, second: torch.Tensor) -> float:
    first, second = first.detach().cpu().double(), second.detach().cpu().double()
    return float((first - second).norm() / second.norm().clamp_min(1e-12))


def sums(model: nn.Module, base: nn.Module, cache: Path, **options: Any) -> mp.Statistics:
    options = {"needs": NEEDS, **options}
    return mp.calibrate(model, base, IMAGES, 3, cache_dir=cache, progress=False, **options)


def test_every_sum_of_a_calibration(tmp_path: Path) -> None:
    model, base = tiny_sam(), tiny_sam(1)
    here = sums(model, base, tmp_path / "cpu")
    there = sums(on_gpu(model), on_gpu(base), tmp_path / "gpu")
    assert [part.header for part in here.parts] == [part.header for part in there.parts]
    worst = {
        (mine.header.kind, name): far(other.tensor(name), mine.tensor(name))
        for mine, other in zip(here.parts, there.parts, strict=True)
        for name in mine.names
    }
    assert max(worst.values()) < 2e-3, max(worst.items(), key=lambda item: item[1])
    asked = sums(model, base, tmp_path / "asked", device=GPU)
    assert next(model.parameters()).device.type == "cpu"
    assert far(asked.parts[0].tensor(asked.parts[0].names[0]), here.parts[0].tensor(here.parts[0].names[0])) < 2e-3


def test_sums_of_either_serve_the_other(tmp_path: Path) -> None:
    model, base = tiny_sam(), tiny_sam(1)
    assert computation_hash(model) == computation_hash(on_gpu(model))
    here = sums(model, base, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    sums(on_gpu(model), on_gpu(base), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    here.check_fits(on_gpu(model))


def test_bfloat16_is_near(tmp_path: Path) -> None:
    model, base = tiny_sam(), tiny_sam(1)
    layer = next(iter(prunable_layers(model)))
    here = sums(model, base, tmp_path / "cpu", needs=["fisher"])
    there = sums(on_gpu(model), on_gpu(base), tmp_path / "gpu", needs=["fisher"], precision="bf16")
    assert 0 < far(there.fisher("a", layer)[0], here.fisher("a", layer)[0]) < 0.2


def test_tf32_is_near_and_its_switches_are_put_back(tmp_path: Path) -> None:
    if default_precision(GPU) != "tf32":
        pytest.skip("this GPU has no TF32")
    model, base = tiny_sam(), tiny_sam(1)
    layer = next(iter(prunable_layers(model)))
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    found = {
        word: sums(on_gpu(model), on_gpu(base), tmp_path, needs=["fisher"], precision=word) for word in ("fp32", "tf32")
    }
    assert [each.parts[0].header.precision for each in found.values()] == ["fp32", "tf32"]
    assert 0 < far(found["tf32"].fisher("a", layer)[0], found["fp32"].fisher("a", layer)[0]) < 0.05
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("method", mp.available_baselines())
def test_every_method_plans_the_same(method: str, tmp_path: Path) -> None:
    model, base = tiny_sam(), tiny_sam(1)
    needs = mp.get_baseline(method).needs
    statistics = sums(model, base, tmp_path, needs=needs) if needs else None
    options: dict[str, Any] = {"statistics": statistics, "data": IMAGES}
    here = mp.plan(model, "h50_m70", method, reference=base, **options)
    there = mp.plan(on_gpu(model), "h50_m70", method, reference=on_gpu(base), **options)
    assert [block.keep_heads for block in here.blocks] == [block.keep_heads for block in there.blocks]
    kept = [
        len({*mine.keep_neurons} & {*other.keep_neurons}) / len(mine.keep_neurons)
        for mine, other in zip(here.blocks, there.blocks, strict=True)
    ]
    assert min(kept) > 0.95
    assert mp.verify(on_gpu(model), there, torch.rand(1, 3, 48, 48, device=GPU)) < 1e-4


def test_a_file_goes_from_one_to_the_other(tmp_path: Path) -> None:
    small = mp.prune(on_gpu(tiny_sam()), mp.make_plan(tiny_sam(), "h50_m50"))
    mp.save(small, tmp_path / "a.safetensors")
    there, here = mp.load(tmp_path / "a.safetensors", GPU), mp.load(tmp_path / "a.safetensors")
    assert {value.device.type for value in (*there.parameters(), *there.buffers())} == {GPU}
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        before, after, on_cpu = (m.image_encoder(images.to(next(m.parameters()).device)) for m in (small, there, here))
    assert torch.equal(before, after)
    assert far(on_cpu, after) < 1e-5


def test_attention_and_recomputing() -> None:
    model = on_gpu(tiny_sam())
    images, boxes, masks = (part.to(GPU) for part in tiny_batch())
    plain = model.image_encoder(images)
    fused = mp.set_attention(copy.deepcopy(model), "sdpa")
    assert far(fused.image_encoder(images), plain) < 1e-5
    plain.square().mean().backward()
    again = mp.set_checkpointing(copy.deepcopy(model))
    again.zero_grad()
    again.image_encoder(images).square().mean().backward()
    layer = "image_encoder.blocks.0.attn.qkv"
    assert far(again.get_submodule(layer).weight.grad, model.get_submodule(layer).weight.grad) < 1e-5
    assert len(boxes) == len(masks) == 3


def test_correction() -> None:
    teacher = tiny_sam()
    plan = mp.make_plan(teacher, "h50_m50")
    here, there = mp.prune(teacher, plan), mp.prune(on_gpu(teacher), plan)
    mine = mp.correct(here, teacher, IMAGES, progress=False)
    other = mp.correct(there, on_gpu(teacher), IMAGES, progress=False)
    assert other.stream_error == pytest.approx(mine.stream_error, rel=1e-2)
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert far(there.image_encoder(images.to(GPU)), here.image_encoder(images)) < 2e-2


def halves(device: str) -> tuple[nn.Module, nn.Module]:
    teacher = tiny_sam().to(device)
    return mp.prune(teacher, mp.make_plan(teacher, "h50_m50")), teacher


def recovered(device: str, state: Path | None = None) -> tuple[nn.Module, list[float]]:
    model, teacher = halves(device)
    history = mp.recover(model, teacher, SPLIT, STEPS, state_path=state, progress=False)
    return model.cpu(), list(history.frame["loss"])


def test_a_recovery() -> None:
    (here, mine), (there, other) = recovered("cpu"), recovered(GPU)
    assert np.allclose(mine, other, rtol=1e-2)
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert far(there.image_encoder(images), here.image_encoder(images)) < 5e-2


@pytest.mark.parametrize(("first", "then"), [("cpu", GPU), (GPU, "cpu"), (GPU, GPU)])
def test_a_recovery_goes_on_on_the_other(
    first: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, losses = recovered(then)
    draw = Pool.batch

    def interrupted(pool: Pool, step: int, **options: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return draw(pool, step, **options)

    monkeypatch.setattr(Pool, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recovered(first, tmp_path / "state.pt")
    monkeypatch.setattr(Pool, "batch", draw)
    model, resumed = recovered(then, tmp_path / "state.pt")
    assert np.allclose(losses, resumed, rtol=1e-2)
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert far(model.image_encoder(images), whole.image_encoder(images)) < 5e-2


def test_evaluation_and_prediction() -> None:
    model = tiny_sam()
    here, there = (mp.evaluate(each, IMAGES, progress=False) for each in (model, on_gpu(model)))
    numbers = here.select_dtypes("number").columns
    assert np.allclose(here[numbers], there[numbers], atol=2e-2, equal_nan=True)
    sample = IMAGES["a"][0]
    masks = [mp.Predictor(each).set_image(sample.image).predict(box=sample.box) for each in (model, on_gpu(model))]
    assert np.mean(masks[0] != masks[1]) < 1e-3


def test_time_and_memory_are_measured() -> None:
    model = on_gpu(tiny_sam())
    small = mp.prune(model, mp.make_plan(model, "h50_m70"))
    measured = mp.compare_latency({"whole": model, "small": small}, repeats=3)
    assert all(each.median_ms > 0 and each.peak_bytes > 0 and each.device.startswith(GPU) for each in measured.values())
    assert measured["small"].peak_bytes < measured["whole"].peak_bytes
    assert available_bytes(GPU) > 1 << 30


def test_a_pruner_of_torch_pruning() -> None:
    model = on_gpu(tiny_sam())
    with mp.traceable(model) as encoder:
        tp.pruner.BasePruner(
            encoder,
            torch.rand(1, 3, 32, 32, device=GPU),
            importance=mp.get_criterion("magnitude")(),
            pruning_ratio=0.5,
            num_heads=mp.heads_by_layer(model),
            prune_num_heads=True,
            prune_head_dims=False,
            ignored_layers=mp.all_but_units(model),
        ).step()
    with torch.no_grad():
        assert torch.isfinite(model.image_encoder(torch.rand(1, 3, 48, 48, device=GPU))).all()


def test_export(tmp_path: Path) -> None:
    report = mp.export_onnx(on_gpu(tiny_sam()), tmp_path / "a.onnx", "encoder")
    assert max(report.differences.values()) < 1e-3


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--size", "48", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    data = ["--data", "own=set", "--device", GPU]
    write_pair(tmp_path)
    pair = ["adapted.pth", "--reference", "reference.pth"]
    for words in (
        ["prune", *pair, "--level", "h50_m70", "--calibration", "4", "--correct", "--out", "small.safetensors", *data],
        ["recover", "small.safetensors", "--teacher", "adapted.pth", "--steps", "3", "--out", "r.safetensors", *data],
        ["evaluate", "r.safetensors", "--out", "table.csv", *data],
        ["predict", "r.safetensors", "set/images/s0_000000.png", "--box", "8,8,40,40", "--device", GPU],
        ["adapt", "reference.pth", "--steps", "3", "--out", "own.pth", *data],
    ):
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)


def test_an_experiment(tmp_path: Path) -> None:
    few = ["--quick", "--set", "images=2", "--set", "calibration=2", "--set", "eval_size=32"]
    levels = ["--one-time", "h70_m95", "--sequential", "h84_m95", "--steps", "1"]
    words = ["main", *write_pair(tmp_path), *few, *levels, "--out", str(tmp_path / "out"), "--device", GPU]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "report.html").exists()
