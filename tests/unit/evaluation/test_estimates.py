"""Estimates of evaluation against the peak of the real work, their arithmetic, and the refusal."""

import pytest
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.progress import duration
from medcore_prune.evaluation.estimates import Estimate, evaluation_estimate, require_memory, seconds_per_image
from medcore_prune.evaluation.images import KEPT_BYTES
from medcore_prune.evaluation.memory import measured
from medcore_prune.models.segment_anything import build_sam


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_memory_of_an_evaluation(attention: str, batch_size: int) -> None:
    model = mp.set_attention(tiny_sam(), attention)
    estimate = evaluation_estimate(model, 6, batch_size=batch_size, trial=False)
    with measured() as cost:
        mp.evaluate(model, {"a": TinySamples("a", 6)}, batch_size=batch_size, progress=False)
    # all masks and images are counted beside the largest moment of a batch
    assert 1 <= estimate.memory_bytes / cost.peak_bytes < 1.25


def test_images_are_kept_for_the_next_model_alone_and_up_to_a_bound() -> None:
    each = 4 * (3 * 48**2 + 4)
    one, two = (evaluation_estimate(tiny_sam(), 1000, models=models, trial=False) for models in (1, 2))
    assert one.fixed == {"images": 0, "masks": 1000 * 2 * 256**2 // 8}
    assert two.fixed == {**one.fixed, "images": 1000 * each}
    assert one.per_image["read ahead"] == each
    assert evaluation_estimate(tiny_sam(), 10**6, models=2, trial=False).fixed["images"] == KEPT_BYTES


def test_an_evaluation_of_many_images_takes_what_it_says() -> None:
    model = build_sam("vit_b", "meta")
    few, many = (evaluation_estimate(model, images, batch_size=1, trial=False) for images in (1, 2000))
    assert many.memory_bytes - few.memory_bytes == 1999 * 2 * 256**2 // 8  # 33 MB, packed masks alone


def test_time_goes_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.evaluation.estimates.seconds_per_image", lambda _: 0.5)
    few, many = (evaluation_estimate(tiny_sam(), images) for images in (10, 30))
    assert (few.seconds, many.seconds) == (5.0, 15.0)
    assert str(few).startswith("evaluation: 10 passes, 16 at a time, about 5 s, ")


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
