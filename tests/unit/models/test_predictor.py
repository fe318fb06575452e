"""One image, any kind of array, one box or several, with the scores that the model gives its masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lite import tiny_lite
from PIL import Image
from reads import counted
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError
from medcore_prune.models.families import family_of

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
BOXES = [(4, 5, 30, 35), (10, 10, 50, 39), (0, 0, 20, 20)]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny_sam()


def test_images_of_any_kind_give_the_same_mask(model: Any, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    wanted = mp.Predictor(model).set_image(PIXELS).predict(BOXES[0])
    channels_first = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(PIXELS), channels_first / 255):
        np.testing.assert_array_equal(mp.Predictor(model).set_image(image).predict(BOXES[0]), wanted)


def test_several_boxes_are_each_what_it_is_alone(model: Any) -> None:
    predictor = mp.Predictor(model).set_image(PIXELS)
    alone = [predictor.predict(box) for box in BOXES]
    for boxes in (BOXES, np.array(BOXES), torch.tensor(BOXES)):
        masks = predictor.predict(boxes)
        assert (masks.shape, masks.dtype) == ((3, 40, 56), np.bool_)
        np.testing.assert_array_equal(masks, alone)
    assert predictor.predict(BOXES[:1]).shape == (1, 40, 56)


def test_scores_are_those_of_the_decoder(model: Any) -> None:
    predictor = mp.Predictor(model).set_image(PIXELS)
    masks, scores = predictor.predict(BOXES, return_scores=True)
    np.testing.assert_array_equal(masks, predictor.predict(BOXES))
    assert (scores.shape, scores.dtype) == ((3,), np.float32)
    frame = mp.data.Frame(model.image_encoder.img_size)
    with torch.no_grad():
        embedding = model.image_encoder(frame.image(PIXELS)[None])
        for box, score in zip(BOXES, scores, strict=True):
            sparse, dense = model.prompt_encoder(None, frame.box(box, (40, 56))[None], None)
            wanted = model.mask_decoder(embedding, model.prompt_encoder.get_dense_pe(), sparse, dense, False)[1]
            assert score == pytest.approx(float(wanted), abs=1e-5)
    mask, alone = predictor.predict(BOXES[1], return_scores=True)
    assert (mask.shape, alone.shape, float(alone)) == ((40, 56), (), float(scores[1]))


@pytest.mark.parametrize("boxes", [BOXES[:1], BOXES])
def test_a_device_is_waited_for_once_for_all_boxes(model: Any, boxes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, move, moved = mp.Predictor(model).set_image(PIXELS), torch.Tensor.to, []

    def moving(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if isinstance(args[0], torch.device):
            moved.append(tuple(self.shape))
        return move(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", moving)
    with counted("item", "cpu", "numpy") as reads:
        predictor.predict(boxes)
    assert (moved, reads) == ([(len(boxes), 4)], ["cpu", "numpy"])
    with counted("item", "cpu", "numpy") as reads:
        predictor.predict(boxes, return_scores=True)
    # scores are there once the masks are
    assert reads == ["cpu", "numpy"] * 2


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [], np.zeros((2, 3)), [(1, 2, 3, 4), (1, 2)], [[["a"]]], "box"])
def test_boxes_that_are_none(model: Any, boxes: Any) -> None:
    with pytest.raises(DataError, match=r"expected .*x0, y0, x1, y1"):
        mp.Predictor(model).set_image(PIXELS).predict(boxes)


def test_lite_medsam_tells_scores_too() -> None:
    predictor = mp.Predictor(tiny_lite()).set_image(PIXELS)
    masks, scores = predictor.predict(BOXES, return_scores=True)
    np.testing.assert_array_equal(masks, predictor.predict(BOXES))
    assert np.isfinite(scores).all()
    assert len({*scores.tolist()}) == len(BOXES)


def test_a_family_without_scores_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = mp.Predictor(model).set_image(PIXELS)
    monkeypatch.delattr(type(family_of(model)), "score")
    with pytest.raises(MedcorePruneError, match="tells no scores of its masks"):
        predictor.predict(BOXES[0], return_scores=True)
    assert predictor.predict(BOXES[0]).shape == (40, 56)
