"""How an image and a box become a mask (METHOD sections 11 and 13): a `Frame`, the model, and back to the image.

Min-max scaling of each image, one box a mask in input pixels, a single output mask. MedSAM's images are stretched to
the square input, LiteMedSAM's are padded. segment-anything's `SamPredictor` pads and normalises by mean and deviation;
a MedSAM checkpoint gives worse masks under it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._support.devices import precision_of, refuse_half, require_default_dtype
from .._support.errors import DataError, MedcorePruneError
from ..data.frame import Frame
from ..data.prompts import Box
from .families import family_of, geometry_of
from .tiny_vit.stems import keeps, stem_tokens

Postprocess = Literal["medsam", "logits"]


def embed(model: nn.Module, images: Tensor) -> Tensor:
    """Run the image encoder: (B, 3, S, S) in [0, 1] to (B, C, h, w), float64 where the model is."""
    require_default_dtype()
    if images.dtype == torch.float32:
        refuse_half(model)
        images = images.to(precision_of(model))
    family: Any = family_of(model)
    if keeps() and (tokens := stem_tokens(model, images)) is not None:
        kept: Tensor = family.rest(model, tokens)
        return kept
    embedding: Tensor = family.embed(model, images)
    return embedding


def of_neck(model: nn.Module, embeddings: Tensor) -> Tensor:
    """Leave out what embeddings hold beside the neck's channels, whose size is that of a stream inside the encoder."""
    beside = geometry_of(model).beside_channels
    return embeddings[:, :-beside] if beside else embeddings


def decode(model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
    """Run prompt encoder and mask decoder with one box an image.

    Embeddings (B, C, h, w) and boxes (B, 4) in input pixels give (B, 1, 4 h, 4 w) low-resolution logits; a model
    without a mask decoder is refused.
    """
    require_default_dtype()
    return family_of(model).decode(model, embeddings, boxes)


def decode_scored(model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Run `decode`, and return with the logits how good the model thinks each mask is: its IoU with the truth, (B,).

    A family says it by a method `score`; one without is refused.
    """
    require_default_dtype()
    family: Any = family_of(model)
    if not hasattr(family, "score"):
        raise MedcorePruneError(f"{family.name}: the model tells no scores of its masks; ask for masks alone")
    scored: tuple[Tensor, Tensor] = family.score(model, embeddings, boxes)
    return scored


def low_res_logits(
    model: nn.Module, images: Tensor, boxes: Tensor, owner: Sequence[int] | None = None, at_a_time: int | None = None
) -> Tensor:
    """Predict (B, 1, 4 h, 4 w) logits of B boxes; the encoder runs once an image, whatever the boxes on it.

    Args:
        model: A model of a known family.
        images: (N, 3, S, S), as `batch_of` makes them.
        boxes: (B, 4) in input pixels.
        owner: The image of each box, its place among the N; None for one box an image, in order.
        at_a_time: Boxes that are decoded together; by default as many as there are images, which takes the memory of
            one box an image.
    """
    embeddings = embed(model, images)
    if owner is None:
        return decode(model, embeddings, boxes)
    step = at_a_time or len(images)
    parts = [
        decode(model, rows_of(embeddings, owner[start : start + step]), boxes[start : start + step])
        for start in range(0, len(boxes), step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def rows_of(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Take rows of a tensor, (N, ...) to (len(rows), ...); the tensor itself where these are all of them in order."""
    if list(rows) == list(range(len(values))):
        return values
    # an index of numbers would have to be copied to the device, which waits for it
    return torch.cat([values[row : row + 1] for row in rows])


def rounds_of(owner: Sequence[int]) -> list[list[int]]:
    """Boxes in rounds, so that none has two of one image: the first of each image, the second of each, and so on.

    What is differentiated for every box by itself takes one backward pass a round through the images' one forward pass.
    """
    rounds: list[list[int]] = []
    seen: Counter[int] = Counter()
    for box, image in enumerate(owner):
        if seen[image] == len(rounds):
            rounds.append([])
        rounds[seen[image]].append(box)
        seen[image] += 1
    return rounds


def input_logits(low_res: Tensor, size: int) -> Tensor:
    """Resize low-resolution logits bilinearly to the input grid, where losses and leverage are taken."""
    return F.interpolate(low_res, (size, size), mode="bilinear", align_corners=False)


def masks_from_logits(
    low_res: Tensor, image: tuple[int, int], grid: tuple[int, int], frame: Frame, postprocess: Postprocess = "medsam"
) -> Tensor:
    """Turn (B, 1, h, w) low-resolution logits into (B, H, W) bool masks on a grid (H, W) that covers the image.

    `"medsam"` resizes probabilities and cuts at 0.5, as MedSAM's published inference; `"logits"` resizes logits and
    cuts at 0. The frame says which part of the map shows an image of `image`, (rows, columns) in its own pixels.
    """
    if postprocess not in _POSTPROCESS:
        raise DataError(f"unknown postprocess {postprocess!r}: expected one of {', '.join(_POSTPROCESS)}")
    activation, threshold = _POSTPROCESS[postprocess]
    values = activation(frame.crop(low_res.float(), image))
    return F.interpolate(values, grid, mode="bilinear", align_corners=False)[:, 0] > threshold


_POSTPROCESS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "medsam": (torch.sigmoid, 0.5),
    "logits": (torch.nn.Identity(), 0.0),
}


def batch_of(
    samples: Sequence[tuple[npt.NDArray[np.uint8], Box]], frame: Frame, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Stack pairs of image and box, in image pixels, to the model's input: (B, 3, size, size) and (B, 4)."""
    images = torch.stack([frame.image(image) for image, _ in samples])
    boxes = torch.stack([frame.box(box, image.shape[:2]) for image, box in samples])
    return images.to(device), boxes.to(device)


def blank_batch(
    model: nn.Module, count: int, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Make a batch of a model's size that shows nothing, for work whose size alone matters.

    Images (B, 3, S, S), boxes (B, 4) and masks (B, 1, S, S), float32, on the model's device unless another is named.
    """
    size = geometry_of(model).image_size
    place = next(model.parameters()).device if device is None else device
    shapes = ((count, 3, size, size), (count, 4), (count, 1, size, size))
    images, boxes, masks = (torch.zeros(shape, dtype=torch.float32, device=place) for shape in shapes)
    return images, boxes, masks
