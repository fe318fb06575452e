import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from tiny import tiny_batch, tiny_sam

from medcore_prune._support.errors import DataError
from medcore_prune.data.frame import Frame
from medcore_prune.models.predictor import Predictor
from medcore_prune.models.protocol import low_res_logits, masks_from_logits


def segment_anything_logits(model: Sam, image: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """One image, one box, through segment-anything's own decoder."""
    sparse, dense = model.prompt_encoder(points=None, boxes=box[None], masks=None)
    logits, _ = model.mask_decoder(
        image_embeddings=model.image_encoder(image[None]),
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[0]


@torch.no_grad()
def test_batched_decoder_equals_segment_anything() -> None:
    model = tiny_sam()
    images, boxes, _ = tiny_batch(3)
    boxes = boxes + torch.arange(3)[:, None]
    got = low_res_logits(model, images, boxes)
    expected = torch.stack([segment_anything_logits(model, i, b) for i, b in zip(images, boxes, strict=True)])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_both_postprocessings_by_hand() -> None:
    low = torch.tensor([[[[1.0, -2.0]]]])
    # a quarter of the way from 1 to -2 is 0.25 > 0, and 0.75 * 0.731 + 0.25 * 0.119 = 0.578 > 0.5
    assert masks_from_logits(low, (1, 4), (1, 4), Frame(4), "medsam")[0, 0].tolist() == [True, True, False, False]
    skewed = torch.tensor([[[[1.0, -9.0]]]])
    # a quarter of the way from 1 to -9 is -1.5 < 0, but 0.75 * 0.731 = 0.548 > 0.5
    assert masks_from_logits(skewed, (1, 4), (1, 4), Frame(4), "medsam")[0, 0].tolist() == [True, True, False, False]
    assert masks_from_logits(skewed, (1, 4), (1, 4), Frame(4), "logits")[0, 0].tolist() == [True, False, False, False]
    with pytest.raises(DataError, match="expected one of medsam, logits"):
        masks_from_logits(low, (1, 4), (1, 4), Frame(4), "sam")  # type: ignore[arg-type]


def test_predictor_has_the_shape_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)
    predictor = Predictor(tiny_sam())
    with pytest.raises(DataError, match="set_image"):
        predictor.predict(box=(1, 2, 30, 20))
    mask = predictor.set_image(image).predict(box=(1, 2, 30, 20))
    assert mask.shape == (40, 70)
    assert mask.dtype == bool
