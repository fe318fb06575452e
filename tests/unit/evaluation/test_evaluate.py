import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneWarning
from medcore_prune.checkpoints.sam import load_checkpoint, save_training_checkpoint
from medcore_prune.data import phantoms
from medcore_prune.data.frame import Frame
from medcore_prune.data.prompts import box_from_mask
from medcore_prune.data.samples import Sample, Subset, arrays
from medcore_prune.data.splits.beside import TrainedOnWarning
from medcore_prune.data.splits.split import Split, split
from medcore_prune.evaluation.evaluate import evaluate, macro_average, predict, score
from medcore_prune.evaluation.floors import floor_masks
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.models.predictor import Predictor


@pytest.fixture(scope="module")
def images() -> EvaluationSet:
    return EvaluationSet(phantoms.make("phantom_skin", seed=5, count=3), frame=Frame(48), eval_size=128)


def test_a_row_an_image(images: EvaluationSet) -> None:
    table = score(images.true_masks, images)
    assert list(table.columns[:3]) == ["dataset", "name", "group"]
    assert len(table) == 3
    assert table["dice"].tolist() == table["bf1"].tolist() == [1.0, 1.0, 1.0]
    assert table["hd95_px"].tolist() == [0.0, 0.0, 0.0]


def test_batches_do_not_change_masks_and_agree_with_the_predictor(images: EvaluationSet) -> None:
    model = tiny_sam()
    masks = predict(model, images, batch_size=2)
    assert [mask.shape for mask in masks] == [(128, 128)] * 3
    assert np.array_equal(masks, predict(model, images, batch_size=3))
    sample = phantoms.make("phantom_skin", seed=5, count=3)[1]
    alone = Predictor(model).set_image(sample.image).predict(sample.box)
    assert np.array_equal(alone, masks[1])


def test_floors_fill_the_box(images: EvaluationSet) -> None:
    boxes, ellipses = floor_masks("box", images), floor_masks("ellipse", images)
    for true, box, ellipse in zip(images.true_masks, boxes, ellipses, strict=True):
        assert not (true & ~box).any()
        rows, columns = np.nonzero(true.any(1))[0], np.nonzero(true.any(0))[0]
        assert box.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert not (ellipse & ~box).any()
        assert 0.7 < ellipse.sum() / box.sum() < 0.85  # pi / 4
    with pytest.raises(DataError, match="expected one of box, ellipse"):
        floor_masks("circle", images)


def test_evaluate_macro_averages_over_data_sets() -> None:
    data = {
        name: phantoms.make(name, seed=5, count=count)
        for name, count in (("phantom_skin", 1), ("phantom_ultrasound", 2))
    }
    table = evaluate(tiny_sam(), data, eval_size=64, progress=False)
    means = [table[table["dataset"] == name]["dice"].mean() for name in data]
    assert macro_average(table)["dice"] == pytest.approx(np.mean(means))


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(DataError, match="no data set"):
        evaluate(tiny_sam(), {}, progress=False)
    with pytest.raises(DataError, match="holds no image"):
        EvaluationSet(Subset(phantoms.make("phantom_skin", count=1), (), "none"), Frame(48))


def test_evaluation_leaves_the_model_alone(images: EvaluationSet) -> None:
    model = tiny_sam()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_each_image_at_its_own_size() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    first = Sample("a", "one", rng.integers(0, 255, (40, 60, 3), dtype=np.uint8), mask, (20, 10, 49, 29), "one")
    samples = [first, Sample("a", "two", first.image[:20], mask[:20], (20, 10, 49, 19), "two")]
    images = EvaluationSet(Fixed(samples), Frame(48), "original")
    masks = predict(tiny_sam(), images)
    assert [each.shape for each in masks] == [(40, 60), (20, 60)]
    assert np.array_equal(masks[0], Predictor(tiny_sam()).set_image(first.image).predict(first.box))
    assert np.array_equal(floor_masks("box", images)[0], mask)
    # 2 px of the 256 grid are a fraction of a pixel here: a contour that is one pixel off is off
    moved = [np.roll(each, 1, axis=1) for each in images.true_masks]
    assert score(moved, images)["bf1"].max() < 0.9
    assert score(images.true_masks, images)["bf1"].min() == 1.0
    with pytest.raises(DataError, match="or 'original', got 'own'"):
        EvaluationSet(Fixed(samples), Frame(48), "own")  # type: ignore[arg-type]


def speck(number: int, radius: float) -> Sample:
    """A disc of so many pixels in 900 x 1200."""
    mask = np.hypot(*np.mgrid[-300 - 20 * number : 600 - 20 * number, -500:700]) < radius
    image = np.random.default_rng(number).integers(90, 120, (900, 1200, 3), dtype=np.uint8)
    return Sample(
        "a", f"f{number}", image + 60 * mask[:, :, None].astype(np.uint8), mask, box_from_mask(mask), f"f{number}"
    )


@pytest.fixture(scope="module")
def specks() -> Fixed:
    return Fixed([speck(number, 2 if number % 2 else 120) for number in range(4)])


def test_an_object_that_is_gone_from_the_grid_is_compared_at_its_own_size(specks: Fixed) -> None:
    images, own = EvaluationSet(specks, Frame(48)), EvaluationSet(specks, Frame(48), "original")
    assert images.vanished == ["f1", "f3"]
    assert own.vanished == []
    assert [place.grid for place in images.places] == [(256, 256), (900, 1200)] * 2
    assert all(mask.any() for mask in images.true_masks)
    # who finds nothing is worst, and not perfect
    nothing = score([np.zeros(grid, bool) for grid in (place.grid for place in images.places)], images)
    assert set(nothing["empty"]) == {"one"}
    assert nothing["dice"].max() == 0
    for floor in ("box", "ellipse"):
        scored = score(floor_masks(floor, images), images)
        assert scored["dice"].min() > 0.6
        kept = score(floor_masks(floor, own), own).iloc[[1, 3]]
        for metric in ("dice", "iou", "bf1", "bf1_1px", "hd95_percent"):
            np.testing.assert_allclose(scored[metric].iloc[[1, 3]], kept[metric])
        # one unit in the column: pixels of the 256 grid
        np.testing.assert_allclose(scored["hd95_px"].iloc[[1, 3]], kept["hd95_px"] * 256 / np.sqrt(900 * 1200))
    masks = predict(tiny_sam(), images, batch_size=3)
    alone = predict(tiny_sam(), own, batch_size=1)
    assert [mask.shape for mask in masks] == [place.grid for place in images.places]
    assert all(np.array_equal(masks[place], alone[place]) for place in (1, 3))


def test_who_evaluates_is_told_of_them(specks: Fixed) -> None:
    says = r"2 of 4 images of fixed are compared at their own size, .* grid of 256 x 256 pixels: f1, f3$"
    with pytest.warns(MedcorePruneWarning, match=says):
        evaluate(tiny_sam(), specks, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tiny_sam(), specks, eval_size="original", progress=False)
        evaluate(tiny_sam(), Fixed([speck(0, 120)]), progress=False)


def test_images_that_a_model_was_trained_on_are_named(tmp_path: Path) -> None:
    drawn = phantoms.make("phantom_skin", seed=1, count=8)
    pictures, masks = [sample.image for sample in drawn], [sample.mask for sample in drawn]
    roles = split({"own": arrays("own", pictures, masks)}, fractions=(0.5, 0.25, 0.25))
    mp.save(tiny_sam(), tmp_path / "model.safetensors")
    roles.save(tmp_path / "model.split.json")
    save_training_checkpoint(tmp_path / "other.pth", mp.zoo.pocket("adapted"))
    roles.save(tmp_path / "other.split.json")
    loaded = mp.load(tmp_path / "model.safetensors")
    models = (loaded, mp.prune(loaded, mp.make_plan(loaded, "h50_m50")), copy.deepcopy(loaded))
    models += (mp.load_sam(tmp_path / "other.pth"), load_checkpoint(tmp_path / "other.pth"))
    for model in models:
        # by their pixels, whatever they are called
        for data in (arrays("mine", pictures, masks), Split({}, {}, roles.train, 0, (0.0, 0.0, 1.0))):
            with pytest.warns(TrainedOnWarning, match=r"(model|other)\.\w+ was trained on (mine|own)/00.* and 1 more"):
                evaluate(model, data, progress=False, eval_size=32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(model, roles, progress=False, eval_size=32)
            evaluate(tiny_sam(), arrays("mine", pictures, masks), progress=False, eval_size=32)


def test_images_that_a_model_was_trained_on_since_it_was_loaded_are_named(tmp_path: Path) -> None:
    drawn = {name: phantoms.make("phantom_skin", seed=seed, count=2) for seed, name in enumerate(("train", "other"))}
    model = tiny_sam()
    mp.adapt(model, {"own": drawn["train"]}, {}, mp.AdaptSettings(steps=1, batch_size=1), tmp_path / "state.pt")
    with pytest.warns(TrainedOnWarning, match=r"the model was trained on phantom_skin/\S+, phantom_skin/\S+: on them"):
        evaluate(copy.deepcopy(model), drawn["train"], progress=False, eval_size=32)
    small = mp.prune(model, mp.make_plan(model, "h50_m50"))
    mp.recover(small, model, drawn["other"], mp.RecoverySettings(steps=1, batch_size=1), progress=False)
    with pytest.warns(TrainedOnWarning):
        evaluate(small, drawn["other"], progress=False, eval_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model, drawn["other"], progress=False, eval_size=32)


def test_a_split_is_evaluated_on_its_test_part() -> None:
    parts = {name: {"skin": phantoms.make("phantom_skin", seed=seed, count=1)} for seed, name in enumerate("abc")}
    whole = Split(parts["a"], parts["b"], parts["c"], 0, (0.7, 0.1, 0.2))
    table = evaluate(tiny_sam(), whole, progress=False)
    assert list(table["name"]) == list(parts["c"]["skin"].ids)
    assert evaluate(tiny_sam(), parts["c"]["skin"], progress=False).equals(table)
