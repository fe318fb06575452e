"""Estimates of a calibration against the peak of the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import TINY, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.calibration.collector import CONSTANT, Collector, Need, collectors
from medcore_prune.calibration.estimate import calibration_estimate
from medcore_prune.calibration.layer_gradients import LayerBatch
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.evaluation.memory import measured
from medcore_prune.models.segment_anything import build_sam

MODELS = {
    "tiny": tiny_sam,
    "pruned": lambda: mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m70")),
    "pocket": lambda: build_sam("pocket"),
}
OTHERS = ("gram", "weighted_gram", "input_squares", "directional_zero", "directional_reset", "mean_gradient")


def real_peak(model: nn.Module, batch: int, needs: tuple[str, ...], losses: tuple[str, ...]) -> int:
    size = model.image_encoder.img_size
    with measured() as cost:
        images, boxes = torch.rand(batch, 3, size, size), torch.tensor([[0.2, 0.2, 0.6, 0.6]]).repeat(batch, 1) * size
        masks = torch.zeros(batch, 1, size, size, dtype=torch.bool)
        masks[..., size // 4 : size // 2, size // 4 : size // 2] = True
        kinds = [Need(need).kind for need in needs]
        Accumulator(model, kinds, losses, reference=model).add(images, boxes, masks)
    return cost.peak_bytes


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("name", list(MODELS))
def test_memory_is_that_of_the_real_step(name: str, attention: str, recompute: bool, batch_size: int) -> None:
    model = mp.set_attention(MODELS[name](), attention)
    estimate = calibration_estimate(model, batch_size=batch_size, checkpointing=recompute, trial=False)
    with mp.checkpointing(model, on=recompute):
        peak = real_peak(model, batch_size, ("fisher",), ("plain", "band"))
    # bytes an image are rounded up
    assert peak <= estimate.memory_bytes - batch_size * estimate.per_image["read ahead"] < peak + batch_size


@pytest.mark.parametrize("needs", [(need,) for need in OTHERS] + [OTHERS])
def test_memory_of_other_statistics(needs: tuple[str, ...]) -> None:
    model = tiny_sam()
    estimate = calibration_estimate(model, model, batch_size=2, needs=needs, losses=("plain",), trial=False)
    peak = real_peak(model, 2, needs, ("plain",))
    assert peak <= estimate.memory_bytes - 2 * estimate.per_image["read ahead"] < 1.01 * peak + 2


def test_it_is_a_line_in_the_batch() -> None:
    one, two, eight = (calibration_estimate(tiny_sam(), batch_size=batch, trial=False) for batch in (1, 2, 8))
    line = one.memory_bytes + 7 * (two.memory_bytes - one.memory_bytes)
    assert eight.memory_bytes == pytest.approx(line, rel=0.01)
    # and one estimate tells what a smaller batch takes
    smaller = eight.memory_bytes - 6 * sum(eight.per_image.values())
    assert smaller == pytest.approx(two.memory_bytes, rel=0.03)


def test_a_whole_calibration_takes_no_more(tmp_path: Path) -> None:
    model, reference = tiny_sam(0), tiny_sam(1)
    data = {name: TinySamples(name, 3) for name in "ab"}
    estimate = calibration_estimate(model, reference, samples=3, datasets=2, batch_size=2, trial=False)
    with measured() as cost:
        mp.calibrate(model, reference, data, 3, cache_dir=tmp_path, batch_size=2, progress=False)
    # what another thread reads meanwhile is not measured here
    ahead = 2 * estimate.per_image["read ahead"]
    assert 0.95 * (estimate.memory_bytes - ahead) < cost.peak_bytes <= estimate.memory_bytes


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


def test_unknown_losses() -> None:
    for refuses in (Accumulator, calibration_estimate):
        with pytest.raises(MedcorePruneError, match=r"losses .*'boundary'.*: expected"):
            refuses(tiny_sam(0), losses=("plain", "boundary"))


def test_checkpointing_is_read_off_the_model() -> None:
    model = tiny_sam()
    plain = calibration_estimate(model, trial=False)
    recomputed = calibration_estimate(mp.set_checkpointing(model), trial=False)
    assert recomputed == calibration_estimate(tiny_sam(), checkpointing=True, trial=False)
    assert recomputed.memory_bytes < plain.memory_bytes
    assert plain == calibration_estimate(model, checkpointing=False, trial=False)
    assert plain.remedies == ("checkpointing (blocks are recomputed)", 'attention="sdpa"', "another device")
    assert calibration_estimate(mp.set_attention(model, "sdpa"), trial=False).remedies == ("another device",)


def test_fused_attention_of_vit_h_needs_no_weights() -> None:
    with_maps, fused = (
        calibration_estimate(mp.set_attention(build_sam("vit_h", "meta"), kind), batch_size=1, trial=False)
        for kind in ("segment-anything", "sdpa")
    )
    # 16 maps of 4096 x 4096 in each of four global blocks
    assert with_maps.memory_bytes - fused.memory_bytes > 0.5 * 4 * 16 * 4096**2 * 4


def test_time_goes_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.calibration.estimate.seconds_per_image", lambda _: 0.5)
    few, many = (calibration_estimate(tiny_sam(), samples=images) for images in (10, 30))
    # a forward pass, and for each loss a backward one of twice its time
    assert (few.seconds, many.seconds) == (10 * 5 * 0.5, 30 * 5 * 0.5)


class Channels(Collector):
    """A sum a layer, which a subclass forms."""

    powers = CONSTANT

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {"image_encoder.blocks.0.mlp.lin2.squares": (4 * TINY.embed_dim,)}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, torch.Tensor]]:
        if layer_name == "image_encoder.blocks.0.mlp.lin2":
            yield f"total/{layer_name}.squares", self.form(batch)

    def form(self, batch: LayerBatch) -> torch.Tensor:
        # as large as ten copies of the inputs
        return torch.stack([batch.inputs.square()] * 10).sum((0, 1, 2))


class NeedsNumbers(Channels):
    """Reads numbers in NumPy, which a run without them cannot give."""

    def form(self, batch: LayerBatch) -> torch.Tensor:
        return torch.from_numpy(batch.inputs.numpy() ** 2).sum((0, 1))


@pytest.fixture
def own() -> Iterator[None]:
    for name, collector in (("channels", Channels), ("needs_numbers", NeedsNumbers)):
        collectors.register(name)(collector)
    yield
    for name in ("channels", "needs_numbers"):
        collectors.unregister(name)


@pytest.mark.usefixtures("own")
def test_a_collector_of_ones_own_is_run_too() -> None:
    model = tiny_sam()
    estimate = calibration_estimate(model, batch_size=2, needs=["channels"], trial=False)
    step = estimate.memory_bytes - 2 * estimate.per_image["read ahead"]
    assert step - real_peak(model, 2, ("channels",), ("plain", "band")) in (0, 1)


@pytest.mark.usefixtures("own")
def test_one_that_reads_numbers_counts_as_the_fisher_and_says_so() -> None:
    model = tiny_sam()
    with pytest.warns(UserWarning, match=r"^the memory of needs_numbers is taken for the Fisher's: .*needs_numbers"):
        estimate = calibration_estimate(model, batch_size=2, needs=["needs_numbers"], trial=False)
    fisher = calibration_estimate(model, batch_size=2, trial=False)
    assert estimate.memory_bytes == fisher.memory_bytes + 4 * 4 * TINY.embed_dim
    assert estimate.memory_bytes > real_peak(model, 2, ("needs_numbers",), ("plain", "band"))
