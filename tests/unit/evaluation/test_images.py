"""Images of an evaluation: each encoded once whatever the boxes on it, read when needed, few alive, none mistaken."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Counting, Fixed, TinySamples, several_boxes
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.data.frame import Frame
from medcore_prune.evaluation import images as module
from medcore_prune.evaluation.evaluate import evaluate, low_res_of, predict, score
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.evaluation.packed import PackedMasks
from medcore_prune.models.families import encoder_of
from medcore_prune.models.protocol import batch_of, low_res_logits


@contextmanager
def encoded(model: nn.Module) -> Iterator[list[int]]:
    """How many images each run of the encoder saw."""
    runs: list[int] = []
    handle = encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    try:
        yield runs
    finally:
        handle.remove()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_an_image_is_encoded_once_and_every_box_is_as_alone(interleaved: bool, batch_size: int) -> None:
    model, samples = tiny_sam(), several_boxes(interleaved=interleaved)
    with encoded(model) as runs:
        table = evaluate(model, samples, batch_size=batch_size, progress=False)
    assert sum(runs) == 4
    assert max(runs) <= batch_size
    assert list(table["name"]) == list(samples.ids)
    found = low_res_of(model, EvaluationSet(samples, Frame(48)), batch_size)
    with torch.no_grad():
        for logits, sample in zip(found, samples, strict=True):
            plain = low_res_logits(model, *batch_of([(sample.image, sample.box)], Frame(48)))[0]
            assert float((logits - plain).abs().max()) < 1e-5 * float(plain.abs().max())
    predictor = mp.Predictor(model)
    masks = predict(model, EvaluationSet(samples, Frame(48), "original"), batch_size=batch_size)
    alone = [predictor.set_image(sample.image).predict(sample.box) for sample in samples]
    assert all(np.array_equal(one, other) for one, other in zip(masks, alone, strict=True))


def test_samples_of_a_set_of_ones_own_share_what_stands_together() -> None:
    model, samples = tiny_sam(), Fixed(list(several_boxes()))
    with encoded(model) as runs:
        evaluate(model, samples, batch_size=3, progress=False)
    assert runs == [3, 1]


def test_a_name_tells_nothing() -> None:
    class Liar(Fixed):
        def image_keys(self) -> list[str]:
            return ["all of one image"] * len(self)

    samples = Liar(list(TinySamples("a", 4)))
    model = tiny_sam()
    with encoded(model) as runs:
        table = evaluate(model, samples, progress=False)
    assert sum(runs) == 4
    assert table["dice"].equals(evaluate(model, TinySamples("a", 4), progress=False)["dice"])


def test_a_set_that_uses_the_room_of_one_image_for_the_next() -> None:
    whole = TinySamples("a", 5)
    room = np.empty_like(whole[0].image)

    class Reusing(TinySamples):
        def __getitem__(self, index: int) -> mp.data.Sample:
            sample = super().__getitem__(index)
            room[:] = sample.image
            return mp.data.Sample(sample.dataset, sample.name, room, sample.mask, sample.box, sample.group)

    images = EvaluationSet(Reusing("a", 5), Frame(48))
    wanted = low_res_of(tiny_sam(), EvaluationSet(whole, Frame(48)))
    assert torch.equal(low_res_of(tiny_sam(), images), wanted)
    assert torch.equal(low_res_of(tiny_sam(), images), wanted)


@pytest.mark.parametrize(("size", "kept", "reads"), [(48, 10**9, 5), (48, 2 * 6720, 5 + 2 * 3), (48, 0, 15)])
def test_images_are_read_again_only_where_they_do_not_fit(size: int, kept: int, reads: int) -> None:
    # 6720 bytes as read, 27648 as the model's input
    samples, model = TinySamples("a", 5), tiny_sam()
    images = EvaluationSet(samples, Frame(size), kept_bytes=kept)
    first = [low_res_of(model, images, batch_size=2) for _ in range(3)]
    assert len(samples.read) == reads
    assert all(torch.equal(each, first[0]) for each in first)
    score(predict(model, images, batch_size=2), images)
    assert images.true_masks[1].shape == (256, 256)


def test_what_is_smaller_is_kept() -> None:
    images = EvaluationSet(TinySamples("a", 3), Frame(16))
    list(images.batches(2))
    assert images._images is not None
    assert {type(image.kept) for image in images._images} == {torch.Tensor}  # 3072 bytes of 16 x 16 against 6720
    images = EvaluationSet(TinySamples("a", 3), Frame(48))
    list(images.batches(2))
    assert images._images is not None
    assert {image.kept.dtype for image in images._images if image.kept is not None} == {np.dtype(np.uint8)}


def test_an_image_that_was_replaced_between_two_models_is_refused() -> None:
    held = list(TinySamples("a", 3))
    samples = Fixed(held)
    images = EvaluationSet(samples, Frame(48), kept_bytes=0)
    low_res_of(tiny_sam(), images)
    held[1].image[0, 0] ^= 255
    with pytest.raises(DataError, match="fixed/001: its image is another one than a moment ago"):
        low_res_of(tiny_sam(), images)


IMAGE_BYTES = 4 * 3 * 48**2


class Gpu:
    """A device that is none: it has so much memory, and what is moved there takes it as long as it lives."""

    place = torch.device("cuda:0")

    def __init__(self, total: int) -> None:
        self.total, self.moved, self._there = total, list[tuple[int, ...]](), list[weakref.ref[torch.Tensor]]()

    def put(self, batch: module.ImageBatch) -> module.ImageBatch:
        there = replace(batch, images=batch.images.clone())
        self.moved.append(there.positions)
        self._there.append(weakref.ref(there.images))
        return there

    def free(self) -> int:
        return self.total - sum(images.nbytes for each in self._there if (images := each()) is not None)

    def inputs(self, images: EvaluationSet, batch_size: int = 1) -> torch.Tensor:
        """What a model would see."""
        return torch.cat([batch.images.clone() for batch in images.batches(batch_size, self.place)])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found, made = Gpu(10**9), EvaluationSet._made
    monkeypatch.setattr(module, "_ALL_ON_DEVICES", weakref.WeakSet())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (found.free(), found.total))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda _: 0)
    monkeypatch.setattr(module.ImageBatch, "to", lambda batch, to: found.put(batch) if to.type == "cuda" else batch)
    monkeypatch.setattr(EvaluationSet, "_made", lambda self, size, done, pinned: made(self, size, done, pinned=False))
    return found


def three_sets(**options: int) -> list[EvaluationSet]:
    return [EvaluationSet(TinySamples(name, 4), Frame(48), **options) for name in "abc"]


def test_inputs_of_all_sets_stay_on_a_device_that_has_room_however_few_are_kept_in_memory(gpu: Gpu) -> None:
    wanted = [torch.cat([batch.images for batch in images.batches(1)]) for images in three_sets()]
    gpu.total = 4 * 12 * IMAGE_BYTES
    sets = three_sets(kept_bytes=7000)  # an image of the four of a set
    for _ in range(3):
        assert all(torch.equal(gpu.inputs(images), each) for images, each in zip(sets, wanted, strict=True))
        assert len(gpu.moved) == 12


def test_a_quarter_of_the_free_memory_bounds_the_inputs_of_all_sets(gpu: Gpu) -> None:
    wanted = [torch.cat([batch.images for batch in images.batches(1)]) for images in three_sets()]
    gpu.total = 4 * 5 * IMAGE_BYTES
    sets = three_sets()
    for moved in (12, 12 + 7, 12 + 7 + 7):
        assert all(torch.equal(gpu.inputs(images), each) for images, each in zip(sets, wanted, strict=True))
        assert len(gpu.moved) == moved
        assert gpu.free() == 15 * IMAGE_BYTES
    # the room of sets that are gone is another one's
    del sets[:2]
    gpu.inputs(sets[0])
    gpu.moved.clear()
    gpu.inputs(sets[0])
    assert gpu.moved == []


def test_inputs_in_batches_of_another_size_take_the_place_of_the_first(gpu: Gpu) -> None:
    gpu.total = 4 * 4 * IMAGE_BYTES
    images = EvaluationSet(TinySamples("a", 4), Frame(48))
    assert torch.equal(gpu.inputs(images), gpu.inputs(images, 4))
    gpu.inputs(images, 4)
    assert gpu.moved == [(0,), (1,), (2,), (3,), (0, 1, 2, 3)]
    assert gpu.free() == 12 * IMAGE_BYTES


@pytest.mark.parametrize(("options", "stay"), [({"kept_bytes": 0}, 0), ({"device_bytes": 2 * IMAGE_BYTES}, 2)])
def test_less_stays_on_a_device_where_that_is_asked_for(gpu: Gpu, options: dict[str, int], stay: int) -> None:
    images = EvaluationSet(TinySamples("a", 4), Frame(48), **options)
    for moved in (4, 4 + 4 - stay, 4 + 2 * (4 - stay)):
        gpu.inputs(images)
        assert len(gpu.moved) == moved


def test_nothing_is_kept_twice_on_a_processor() -> None:
    images = EvaluationSet(TinySamples("a", 4), Frame(48))
    list(images.batches(2))
    assert images._on_device.batches == []


@pytest.mark.parametrize(
    "work",
    [
        lambda model, samples: mp.evaluate(model, samples, batch_size=4, progress=False),
        lambda model, samples: predict(model, EvaluationSet(samples, Frame(48), kept_bytes=20_000), batch_size=4),
        lambda model, samples: mp.calibrate(
            model, None, samples, samples=10**6, needs=["directional_zero"], batch_size=4, progress=False
        ),
        lambda model, samples: mp.correct(
            mp.prune(model, mp.plan(model, "h50_m50", "random", seed=0)),
            model,
            samples,
            samples=10**6,
            batch_size=4,
            progress=False,
        ),
    ],
    ids=["evaluate", "predict", "calibrate", "correct"],
)
def test_few_images_are_alive_however_many_there_are(
    work: Callable[[nn.Module, Counting], object], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few, many = Counting(20), Counting(80)
    for samples in (few, many):
        work(tiny_sam(), samples)
        assert samples.reads >= len(samples)
    assert many.most_alive <= few.most_alive + 1 <= 14


def test_objects_and_arrays_grow_by_less_than_three_kilobytes_an_image() -> None:
    import gc
    import tracemalloc

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            mp.evaluate(tiny_sam(), Counting(count), batch_size=4, eval_size=64, progress=False)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4)  # what is imported and remembered at the first call
    assert (peak(160) - peak(40)) / 120 < 3072  # an image alone is 12 kB; torch's own memory is not traced


def test_packed_masks_are_what_they_were() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.5 for shape in ((3, 5), (256, 256), (1, 1))]
    packed = PackedMasks(masks)
    assert len(packed) == 3
    assert all(np.array_equal(one, other) for one, other in zip(packed, masks, strict=True))
    assert np.array_equal(packed[-1], masks[2])
    assert len(packed[1:]) == 2
    with pytest.raises(IndexError):
        packed[3]
