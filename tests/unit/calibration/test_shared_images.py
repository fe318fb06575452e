"""Samples that share an image: its forward pass is shared, each gradient is that of the plain loop over samples."""

from pathlib import Path

import pytest
import torch
from tiny import TINY, tiny_sam
from tiny_samples import Fixed, OneByOne, several_boxes
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.interventions import RiskData, risk
from medcore_prune.calibration.job import read_batch
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.frame import Frame
from medcore_prune.data.reading import by_image
from medcore_prune.data.samples import SampleSet
from medcore_prune.models.families import encoder_of
from medcore_prune.models.losses import plain_loss
from medcore_prune.models.protocol import batch_of, input_logits, low_res_logits, rounds_of

FRAME = Frame(TINY.image_size)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def plain_squares(model: nn.Module, samples: SampleSet) -> dict[str, Tensor]:
    """One sample after the other by autograd alone: its gradient, squared, summed."""
    sums: dict[str, Tensor] = {}
    layers = prunable_layers(model)
    for sample in samples:
        images, boxes = batch_of([(sample.image, sample.box)], FRAME)
        mask = torch.from_numpy(FRAME.mask(sample.mask))[None, None].float()
        loss = plain_loss(input_logits(low_res_logits(model, images, boxes), TINY.image_size), mask).sum()
        gradients = torch.autograd.grad(loss, [layer.weight for layer in layers.values()])
        for name, gradient in zip(layers, gradients, strict=True):
            sums[name] = sums.get(name, 0) + gradient.square()
    return sums


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
def test_the_fisher_of_shared_images_is_that_of_the_plain_loop(interleaved: bool, recompute: bool) -> None:
    model, samples = tiny_sam(), several_boxes(3, 3, interleaved)
    # the last image has one sample alone
    samples = mp.data.Subset(samples, tuple(n for n, name in enumerate(samples.ids) if name not in ("2#1", "2#2")), "s")
    sums, runs = Accumulator(model, ["fisher"], losses=("plain",)), []
    handle = encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    with mp.checkpointing(model, on=recompute):
        sums.add(*read_batch(samples, by_image(samples), model))
    handle.remove()
    assert (sum(runs), sums.count) == (3, 7)
    for name, wanted in plain_squares(model, samples).items():
        close(sums.sums["fisher"][f"plain_plain/{name}.weight"], wanted)


@pytest.mark.parametrize("kind", ["fisher", "directional_zero", "input_squares", "weighted_gram"])
def test_a_calibration_of_shared_images_is_that_of_each_by_itself(kind: str, tmp_path: Path) -> None:
    model, samples, runs = tiny_sam(), several_boxes(interleaved=True), list[int]()
    found = {}
    for name, each in (("shared", samples), ("alone", OneByOne(list(samples)))):
        handle = encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
        size = 8 if name == "shared" else 1
        statistics = mp.calibrate(
            model, None, {"a": each}, needs=[kind], batch_size=size, cache_dir=tmp_path / name, progress=False
        )
        handle.remove()
        assert sum(runs) == (4 if name == "shared" else 20)
        runs.clear()
        part = next(iter(statistics.parts))
        found[name] = {key: part.tensor(key) for key in part.names}
    assert found["shared"].keys() == found["alone"].keys()
    for key, wanted in found["alone"].items():
        close(found["shared"][key], wanted)


def test_an_interrupted_calibration_goes_on_with_another_batch_size(tmp_path: Path) -> None:
    model, reads = tiny_sam(), []

    class Stopping(OneByOne):
        def image_keys(self) -> list[str]:
            return [name.split("#")[0] for name in self.ids]

        def __getitem__(self, index: int) -> mp.data.Sample:
            reads.append(index)
            if len(reads) == stop:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    samples = Stopping(list(several_boxes(interleaved=True)))
    options = {"needs": ["directional_zero"], "save_every_s": 0.0, "progress": False}
    # twenty looks at the masks for the draw, then two of four images
    stop = 20 + 11
    with pytest.raises(KeyboardInterrupt):
        mp.calibrate(model, None, {"a": samples}, batch_size=1, cache_dir=tmp_path / "cut", **options)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.rglob("partial-*")] == ["partial-by-image-directional_zero.safetensors"]
    stop = 0
    del reads[:]
    cut = mp.calibrate(model, None, {"a": samples}, batch_size=2, cache_dir=tmp_path / "cut", **options)  # type: ignore[arg-type]
    assert len(reads) == 20 + 10
    whole = mp.calibrate(model, None, {"a": samples}, batch_size=2, cache_dir=tmp_path / "whole", **options)  # type: ignore[arg-type]
    one, other = (next(iter(each.parts)) for each in (cut, whole))
    for key in one.names:
        close(one.tensor(key), other.tensor(key))


def test_what_is_not_finite_is_named_in_a_later_round_too() -> None:
    model, samples = tiny_sam(), several_boxes(2, 3)
    images, boxes, masks, names, owner = read_batch(samples, by_image(samples), model)
    masks = masks.float()
    masks[4] = float("nan")
    with pytest.raises(StatisticsError, match="the loss of several/1#1 is not finite"):
        Accumulator(model).add(images, boxes, masks, names, owner)


def test_a_device_is_waited_for_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples, waits = tiny_sam(), several_boxes(2, 3), []
    batch = read_batch(samples, by_image(samples), model)
    for name in ("tolist", "item", "__bool__", "__float__"):
        own = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, own=own: (waits.append(1), own(self))[1])
    Accumulator(model, ["fisher"]).add(*batch)
    assert len(waits) == 1


def test_risk_runs_the_encoder_once_an_image() -> None:
    model, samples, runs = tiny_sam(), several_boxes(3, 2), list[int]()
    shared, alone = (RiskData.of(each, FRAME) for each in (samples, OneByOne(list(samples))))
    assert (len(shared.images), len(alone.images)) == (3, 6)
    handle = encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    assert risk(model, shared, batch_size=2) == pytest.approx(risk(model, alone, batch_size=2), rel=1e-6)
    handle.remove()
    assert runs == [2, 1, 2, 2, 2]


def test_rounds_have_no_image_twice() -> None:
    assert rounds_of([0, 0, 1, 1, 1, 2]) == [[0, 2, 5], [1, 3], [4]]
    assert rounds_of([0, 1, 2]) == [[0, 1, 2]]
    assert rounds_of([]) == []


def test_sets_of_ones_own_share_within_a_batch() -> None:
    model, samples = tiny_sam(), Fixed(list(several_boxes(2, 2)))
    images, boxes, _, _, owner = read_batch(samples, by_image(samples), model)
    assert (len(images), len(boxes), owner) == (2, 4, (0, 0, 1, 1))
