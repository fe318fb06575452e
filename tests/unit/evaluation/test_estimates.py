"""Estimates against the peak of the real work, their arithmetic, and the refusal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.progress import duration
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.evaluation.estimates import (
    Estimate,
    calibration_estimate,
    evaluation_estimate,
    recovery_estimate,
    require_memory,
    seconds_per_image,
)
from medcore_prune.evaluation.latency import measured
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.models.switches import checkpointing, set_attention, set_checkpointing
from medcore_prune.training.settings import RecoverySettings


def fisher_peak(model: nn.Module, batch: int, losses: tuple[str, ...]) -> int:
    images, boxes = torch.rand(batch, 3, 96, 96), torch.tensor([[20.0, 20.0, 60.0, 60.0]]).repeat(batch, 1)
    masks = torch.zeros(batch, 1, 96, 96)
    masks[..., 20:60, 20:60] = 1
    with measured() as cost:
        Accumulator(model, losses=losses).add(images, boxes, masks)
    return cost.peak_bytes


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("losses", [("plain",), ("plain", "band")])
def test_memory_of_a_calibration(attention: str, recompute: bool, losses: tuple[str, ...]) -> None:
    model = set_attention(build_sam("pocket"), attention)
    estimate = calibration_estimate(model, batch_size=2, losses=losses, checkpointing=recompute, trial=False)
    with checkpointing(model, on=recompute):
        peak = fisher_peak(model, 2, losses)
    # on the large side, but not by more than a quarter
    assert 0.97 < estimate.memory_bytes / peak < 1.25


@pytest.mark.parametrize("refuses", [Accumulator, calibration_estimate])
def test_unknown_losses(refuses: Callable[..., object]) -> None:
    with pytest.raises(MedcorePruneError, match=r"losses .*'boundary'.*: expected"):
        refuses(tiny_sam(0), losses=("plain", "boundary"))


def tensor_bytes(path: Path) -> int:
    """Size of a safetensors file without its header, whose length stands in the first eight bytes."""
    return path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")


def test_bytes_on_disk_are_those_of_the_files(tmp_path: Path) -> None:
    model, reference = tiny_sam(0), tiny_sam(1)
    data = {name: TinySamples(name, 2) for name in "ab"}
    needs = (Need.FISHER, Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS, Need.DIRECTIONAL_ZERO)
    estimate = calibration_estimate(model, reference, samples=2, datasets=2, batch_size=2, needs=needs, trial=False)
    mp.calibrate(model, reference, data, 2, needs, cache_dir=tmp_path, progress=False)
    assert sum(tensor_bytes(path) for path in tmp_path.rglob("*.safetensors")) == estimate.disk_bytes
    assert estimate.passes == 2 * 2 * 2


def test_memory_of_a_recovery() -> None:
    model = build_sam("pocket")
    settings = RecoverySettings(steps=3, batch_size=2, validate_every=2)
    estimate = recovery_estimate(model, model, settings, images=10, validation_images=4, trial=False)
    trained = sum(p.numel() for p in model.image_encoder.parameters()) + sum(
        p.numel() for p in model.mask_decoder.parameters()
    )
    assert estimate.fixed == {"optimiser": 16 * trained, "images": 10 * 4 * 128**2}
    assert estimate.passes == 3 * 2 + 2 * 4
    held, batch = [], (torch.rand(2, 3, 96, 96), torch.tensor([[20.0, 20.0, 60.0, 60.0]] * 2))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with measured() as cost:
        held.append({name: value.clone() for name, value in model.state_dict().items()})
        for _ in range(2):
            loss = low_res_logits(model, *batch).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    expected = estimate.memory_bytes - estimate.fixed["images"]
    assert 0.97 < expected / cost.peak_bytes < 1.3


def test_checkpointing_is_read_off_the_model() -> None:
    model = tiny_sam()
    plain = calibration_estimate(model, trial=False)
    recomputed = calibration_estimate(set_checkpointing(model), trial=False)
    assert recomputed == calibration_estimate(tiny_sam(), checkpointing=True, trial=False)
    assert recomputed.memory_bytes < plain.memory_bytes
    assert plain.remedies == ("checkpointing (blocks are recomputed)", 'attention="sdpa"', "another device")
    assert calibration_estimate(set_attention(model, "sdpa"), trial=False).remedies == ("another device",)


WORK: dict[str, Callable[[nn.Module, int], Estimate]] = {
    "calibration": lambda model, images: calibration_estimate(model, samples=images),
    "recovery": lambda model, images: recovery_estimate(model, model, RecoverySettings(steps=images)),
    "evaluation": evaluation_estimate,
}


@pytest.mark.parametrize("work", list(WORK))
def test_time_goes_with_the_images(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.evaluation.estimates.seconds_per_image", lambda _: 0.5)
    few, many = (WORK[work](tiny_sam(), images) for images in (10, 30))
    assert few.seconds is not None
    assert many.seconds == pytest.approx(3 * few.seconds)
    assert few.seconds >= 0.5 * few.passes
    assert str(few).startswith(
        f"{work}: {few.passes} passes, {few.batch_size} at a time, about {duration(few.seconds)}"
    )


def test_time_of_an_image_scales_blocks_by_their_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    # every block that is tried and the decoder take a second
    monkeypatch.setattr("medcore_prune.evaluation.estimates._seconds", lambda *_: 1.0)
    model = tiny_sam()
    cost = mp.count(model, convention="full")
    windowed, whole = (sum(b.flops for b in cost.per_block if b.window == window) for window in (4, 0))
    each = {window: next(b.flops for b in cost.per_block if b.window == window) for window in (4, 0)}
    stem = (cost.flops - windowed - whole) * (1 / each[4] + 1 / each[0]) / 2
    assert seconds_per_image(model) == pytest.approx(windowed / each[4] + whole / each[0] + stem + 1)


def test_refusal_says_what_would_help() -> None:
    estimate = Estimate("work", 10, 4, {"sums": 100}, {"activations": 50}, 0, None, "cpu", ("checkpointing",))
    assert (estimate.memory_bytes, estimate.largest_batch(220), estimate.largest_batch(50)) == (300, 2, 0)
    require_memory(estimate, 300)
    with pytest.raises(MedcorePruneError) as error:
        require_memory(estimate, 220)
    assert str(error.value) == (
        "work needs about 300 bytes of memory and cpu has 220 bytes left: use a batch of 2 (expected to fit), "
        "checkpointing"
    )
    with pytest.raises(MedcorePruneError, match="use a batch of 1 \\(not enough by itself\\), checkpointing"):
        require_memory(estimate, 120)


def test_limit_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = Estimate("work", 1, 1, {}, {"activations": 50}, 0, None, "cpu", ("another device",))
    for left, refused in ((None, False), (50, False), (49, True)):
        monkeypatch.setattr("medcore_prune.evaluation.estimates.available_bytes", lambda device, left=left: left)
        if refused:
            with pytest.raises(MedcorePruneError, match="has 49 bytes left: use another device"):
                require_memory(estimate)
        else:
            require_memory(estimate)


def test_text() -> None:
    estimate = Estimate("calibration", 8, 2, {"sums": 10**9}, {"work": 10**9, "gone": 0}, 5 * 10**6, 75.2, "cpu", ())
    assert str(estimate) == (
        "calibration: 8 passes, 2 at a time, about 1 min 15 s, 3.0 GB of memory (work 2.0 GB, sums 1.0 GB), "
        "5.0 MB on disk"
    )
    assert [duration(s) for s in (0.4, 59.4, 60, 7500)] == ["0 s", "59 s", "1 min 0 s", "2 h 5 min"]
