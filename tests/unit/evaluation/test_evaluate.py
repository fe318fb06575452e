import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed

from medcore_prune._support.errors import DataError
from medcore_prune.data import phantoms
from medcore_prune.data.frame import Frame
from medcore_prune.data.samples import Sample, Subset
from medcore_prune.data.splits.split import Split
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


def test_a_split_is_evaluated_on_its_test_part() -> None:
    parts = {name: {"skin": phantoms.make("phantom_skin", seed=seed, count=1)} for seed, name in enumerate("abc")}
    whole = Split(parts["a"], parts["b"], parts["c"], 0, (0.7, 0.1, 0.2))
    table = evaluate(tiny_sam(), whole, progress=False)
    assert list(table["name"]) == list(parts["c"]["skin"].ids)
    assert evaluate(tiny_sam(), parts["c"]["skin"], progress=False).equals(table)
