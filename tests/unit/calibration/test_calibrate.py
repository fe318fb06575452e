"""`calibrate` itself: what is cached, what is collected later, shards, merging with a reference, refusals."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imsave
from tiny import tiny_sam
from tiny_samples import Fixed

import medcore_prune as mp
from medcore_prune._support.errors import DataError, StatisticsError
from medcore_prune.calibration.collector import Need, prunable_layers
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.samples import Sample, SampleSet

COUNT = 4


def images(name: str = "phantom_skin", seed: int = 5, count: int = COUNT) -> SampleSet:
    return mp.data.phantoms.make(name, seed=seed, count=count, size=48)


def calibrate(place: Path, data: Any, **options: Any) -> mp.Statistics:
    options = {"samples": COUNT, "cache_dir": place, "progress": False, **options}
    return mp.calibrate(tiny_sam(), tiny_sam(seed=1), data, **options)


def halves() -> tuple[Fixed, Fixed]:
    whole = images()
    parts = [(list(whole)[part], list(whole.hashes())[part]) for part in (slice(0, 2), slice(2, 4))]
    return Fixed(*parts[0]), Fixed(*parts[1])


def test_merged_shards_score_as_one_run(tmp_path: Path) -> None:
    whole = calibrate(tmp_path, {"a": images()})
    merged = mp.Statistics.merge(calibrate(tmp_path, {"a": half}) for half in halves())
    assert merged.counts == {"a": COUNT}
    for layer in prunable_layers(tiny_sam()):
        for one, other in zip(merged.reference_weights(layer), whole.reference_weights(layer), strict=True):
            assert torch.equal(one, other)
    for method in ("medcore", "original_medcore", "zero_fisher"):
        recipe = mp.get_baseline(method)
        one, other = (
            mp.unit_scores(recipe.build(each, tiny_sam()), tiny_sam(), mlp_group_size=1) for each in (whole, merged)
        )
        for key, scores in one.items():
            torch.testing.assert_close(other[key], scores, rtol=1e-4, atol=1e-6)


def test_a_sample_under_two_names_is_not_merged(tmp_path: Path) -> None:
    first, second = halves()
    again = Fixed([replace(first[1], name="renamed"), *second], [first.hashes()[1], *second.hashes()])
    runs = [calibrate(tmp_path, {"a": each}) for each in (first, again)]
    message = f"samples {first.ids[1]} and renamed of a are the same image, mask and box.*merge disjoint samples"
    with pytest.raises(StatisticsError, match=message):
        mp.Statistics.merge(runs)


def test_a_sample_given_twice_to_one_run_counts_twice_whatever_it_is_merged_with(tmp_path: Path) -> None:
    first, second = halves()
    twice = Fixed([first[0], replace(first[0], name="again")], [first.hashes()[0]] * 2)
    # in one shard or in two
    runs = [calibrate(tmp_path, {"a": twice}, shards=[1]), calibrate(tmp_path, {"a": second})]
    assert mp.Statistics.merge(runs).counts == {"a": 4}


def test_data_sets_put_side_by_side_are_those_of_one_run(tmp_path: Path) -> None:
    sets = {"a": images(), "b": images("phantom_ultrasound")}
    apart = mp.Statistics.merge(calibrate(tmp_path, {name: each}) for name, each in sets.items())
    together = calibrate(tmp_path, sets)
    plans = [mp.plan(tiny_sam(), "h50_m70", "medcore", statistics=each) for each in (apart, together)]
    assert plans[0].hash == plans[1].hash


def test_references_of_different_runs_do_not_merge(tmp_path: Path) -> None:
    first, second = halves()
    one = calibrate(tmp_path, {"a": first})
    other = mp.calibrate(tiny_sam(), tiny_sam(seed=9), {"a": second}, samples=2, cache_dir=tmp_path, progress=False)
    with pytest.raises(StatisticsError, match="different reference weights"):
        mp.Statistics.merge([one, other])


def test_what_is_stored_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(tmp_path, {"a": images()}, needs={Need.FISHER})

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Accumulator, "add", refuse)
    again = calibrate(tmp_path, {"a": images()}, needs={Need.FISHER})
    assert again.has(Need.FISHER)
    # what is needed besides is collected, and only that
    with pytest.raises(AssertionError, match="computed again"):
        calibrate(tmp_path, {"a": images()}, needs={Need.FISHER, Need.MEAN_GRADIENT})


@pytest.mark.parametrize(
    "block",
    [torch.autocast("cpu", torch.bfloat16), torch.no_grad(), torch.inference_mode()],
    ids=["autocast", "no_grad", "inference_mode"],
)
@pytest.mark.parametrize("precision", [None, "fp32", "bf16"])
def test_a_block_around_the_call_changes_nothing(tmp_path: Path, block: Any, precision: str | None) -> None:
    needs = [Need(name) for name in ("fisher", "directional_zero", "gram")]
    settings: dict[str, Any] = {"needs": needs, "precision": precision, "progress": False}
    model = tiny_sam()
    for place, around in (("plain", nullcontext()), ("within", block)):
        with around:
            mp.calibrate(model, data={"a": images()}, samples=2, cache_dir=tmp_path / place, **settings)
    plain, within = (
        {file.relative_to(tmp_path / place): file.read_bytes() for file in (tmp_path / place).rglob("*.safetensors")}
        for place in ("plain", "within")
    )
    assert len(plain) >= len(needs)
    assert plain == within


def test_other_boxes_are_other_samples(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    sample = images(count=1)[0]
    imsave(tmp_path / "set/images/one.png", sample.image)
    imsave(tmp_path / "set/masks/one.png", sample.mask.astype("uint8") * 255, check_contrast=False)
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\none,1,1,40,40\n")
    own = mp.data.folder(tmp_path / "set")
    given = mp.data.folder(tmp_path / "set", boxes=tmp_path / "boxes.csv")
    layer = "image_encoder.blocks.1.mlp.lin1"
    one, other = (calibrate(tmp_path / "cache", {"a": each}).fisher("a", layer)[0] for each in (own, given))
    assert not torch.allclose(one, other, rtol=1e-3)


def test_shards_can_be_taken_and_add_up(tmp_path: Path) -> None:
    sharded = calibrate(tmp_path, {"a": images()}, shards=[1, 2])
    assert sharded.boundaries() == [1, 2, 4]
    assert sharded.take(2).counts == {"a": 2}
    layer = "image_encoder.blocks.1.mlp.lin1"
    whole = calibrate(tmp_path, {"a": images()}).fisher("a", layer)[0]
    torch.testing.assert_close(sharded.fisher("a", layer)[0], whole, rtol=1e-4, atol=1e-6 * float(whole.max()))


def sums_of(found: mp.Statistics) -> dict[tuple[str, str, str, str], torch.Tensor]:
    return {
        (part.header.kind, part.header.role, part.header.dataset, key): part.tensor(key)
        for part in found.parts
        for key in part.names
    }


@pytest.mark.parametrize("keep_smaller", [True, False])
def test_more_images_go_on_from_fewer_and_come_to_the_same_sums(
    keep_smaller: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {Need.FISHER, Need.REFERENCE_FISHER, Need.GRAM, Need.DIRECTIONAL_RESET}
    data = {"a": images(), "b": images("phantom_polyp_a")}
    once = calibrate(tmp_path / "once", data, batch_size=1, needs=needs)
    added: list[int] = []
    add = Accumulator.add
    monkeypatch.setattr(Accumulator, "add", lambda self, *args: (added.append(len(args[0])), add(self, *args))[1])
    place = tmp_path / "grown"
    for count, runs in ((1, 1), (3, 2), (COUNT, 1), (COUNT, 0)):
        added.clear()
        grown = calibrate(place, data, samples=count, batch_size=1, needs=needs, keep_smaller=keep_smaller)
        # of two data sets through two models
        assert sum(added) == 2 * 2 * runs
        assert grown.counts == {"a": count, "b": count}
    one, other = sums_of(once), sums_of(grown)
    assert list(one) == list(other)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    # four kinds of two data sets
    files = [path for path in place.rglob("*.safetensors") if path.name != "weights.safetensors"]
    assert len(files) == 2 * 4 * (3 if keep_smaller else 1)


def test_fewer_images_that_are_no_whole_batches_or_lack_a_kind_are_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[int] = []
    add = Accumulator.add
    calibrate(tmp_path, {"a": images()}, samples=3, batch_size=2, needs={Need.FISHER})
    calibrate(tmp_path, {"a": images()}, samples=2, batch_size=2, needs={Need.GRAM})
    monkeypatch.setattr(Accumulator, "add", lambda self, *args: (added.append(len(args[0])), add(self, *args))[1])
    calibrate(tmp_path, {"a": images()}, batch_size=2, needs={Need.FISHER, Need.GRAM})
    assert added == [2, 2]
    added.clear()
    # another draw begins with other images
    calibrate(tmp_path, {"a": images(count=6)}, samples=2, batch_size=2, seed=1, needs={Need.FISHER})
    calibrate(tmp_path, {"a": images(count=6)}, samples=4, batch_size=2, seed=1, needs={Need.FISHER})
    assert added == [2, 2]


def test_one_loss_serves_lambda_zero_alone(tmp_path: Path) -> None:
    plain = calibrate(tmp_path, {"a": images()}, losses=("plain",), needs={Need.FISHER})
    layer = "image_encoder.blocks.1.mlp.lin1"
    assert float(plain.fisher("a", layer, lambda_b=0.0)[0].sum()) > 0
    with pytest.raises(StatisticsError, match="collected for lambda_b 0 alone"):
        plain.fisher("a", layer, lambda_b=5.0)
    with pytest.raises(StatisticsError, match="expected a finite number of at least 0"):
        plain.fisher("a", layer, lambda_b=-1.0)


def test_a_sample_whose_loss_is_not_finite_is_named(tmp_path: Path) -> None:
    model = tiny_sam()
    with torch.no_grad():
        model.mask_decoder.mask_tokens.weight.fill_(torch.nan)  # type: ignore[union-attr,operator]
    with pytest.raises(StatisticsError, match=r"the loss of a/s5_\d+ is not finite"):
        mp.calibrate(model, None, {"a": images()}, samples=1, cache_dir=tmp_path, progress=False)


def speck() -> Sample:
    """An image whose object is gone at 48 pixels."""
    image, mask = np.zeros((480, 480, 3), np.uint8), np.zeros((480, 480), bool)
    mask[20:22, 20:22] = True
    return Sample("a", "speck", image, mask, (20, 20, 21, 21), "g")


def test_an_object_that_vanishes_at_the_input_size_is_passed_over(tmp_path: Path) -> None:
    seen = list(images())
    found = calibrate(tmp_path, {"a": Fixed([speck(), *seen], ["x", *images().hashes()])}, samples=len(seen) + 1)
    assert sorted(name for name, _ in found.samples("a")) == sorted(images().ids)


def test_a_data_set_whose_objects_all_vanish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a: no object of its 1 training images is left at 48 px"):
        calibrate(tmp_path, {"a": Fixed([speck()], ["x"])}, samples=1)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (None, {}, "calibration needs images: .* got NoneType"),
        ({}, {}, "there is no training data set"),
        ({"a": "empty"}, {}, "data set 'a' has no training image"),
        ({"a": "images"}, {"batch_size": 0}, "batch_size is 0"),
        ({"a": "images"}, {"losses": ("band",)}, "losses"),
    ],
)
def test_refusals(data: Any, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    if data == {"a": "empty"}:
        data = {"a": Fixed([], [])}
    elif data == {"a": "images"}:
        data = {"a": images()}
    with pytest.raises((DataError, StatisticsError), match=says):
        calibrate(tmp_path, data, **options)


@pytest.mark.parametrize(("few", "says"), [(COUNT, "a few samples; takes "), (COUNT - 1, "about 0 s; takes ")])
def test_a_few_samples_are_not_timed_beforehand(
    few: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medcore_prune.calibration.calibrate._FEW", few)
    monkeypatch.setattr("medcore_prune.calibration.calibrate._seconds_per_sample", lambda *_: 0.1)
    mp.calibrate(tiny_sam(), None, {"a": images()}, samples=COUNT, cache_dir=tmp_path, needs={Need.GRAM})
    assert f"calibration: {says}" in capsys.readouterr().err
