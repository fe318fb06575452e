"""Segment one image with boxes, under the protocol of the model's family."""

from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._support.errors import DataError
from ..data.foreign import as_image
from ..data.prompts import Box
from .families import geometry_of
from .protocol import Postprocess, decode, decode_scored, embed, masks_from_logits

Boxes: TypeAlias = Box | npt.ArrayLike


class Predictor:
    """Embed an image once, then ask for as many boxes as wanted.

    Not a drop-in for segment-anything's `SamPredictor`, which normalises and pads another way (METHOD section 11).

    Args:
        model: A `Sam`, pruned or not, in evaluation mode.
        postprocess: `"medsam"` (probabilities resized, cut at 0.5) or `"logits"`.

    Example:
        >>> Predictor(model).set_image(image).predict(box=(10, 20, 80, 90))
    """

    def __init__(self, model: nn.Module, postprocess: Postprocess = "medsam") -> None:
        self.model, self.postprocess = model, postprocess
        self._embedding: Tensor | None = None
        self._shape = (0, 0)

    @torch.no_grad()
    def set_image(self, image: Any) -> "Predictor":
        """Embed an image.

        Args:
            image: A path, a PIL image, an array or a tensor: (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels,
                uint8 or floats in [0, 1].

        Returns:
            The predictor itself.

        Raises:
            DataError: Not such an image.
            MedcorePruneError: The model is of half precision, or torch's default dtype is not float32.
        """
        device = next(self.model.parameters()).device
        values = as_image(image)
        pixels = geometry_of(self.model).frame.image(values)
        self._embedding = embed(self.model, pixels[None].to(device))
        self._shape = (int(values.shape[0]), int(values.shape[1]))
        return self

    @overload
    def predict(self, box: Boxes, return_scores: Literal[False] = False) -> npt.NDArray[np.bool_]: ...
    @overload
    def predict(
        self, box: Boxes, return_scores: Literal[True]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]: ...

    @torch.no_grad()
    def predict(
        self, box: Boxes, return_scores: bool = False
    ) -> npt.NDArray[np.bool_] | tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Segment what a box encloses, or each of several.

        Args:
            box: x0, y0, x1, y1 in pixels of the image, or (n, 4) of them.
            return_scores: Also return how good the model thinks each mask is: its predicted IoU with the truth, which
                is no probability and may leave [0, 1].

        Returns:
            (H, W) bool of one box, (n, H, W) of several; with scores a pair of that and a float32 array, () or (n,).

        Raises:
            DataError: No image was set, no box was given, or one is empty or outside of the image.
            MedcorePruneError: torch's default dtype is not float32, or the model tells no scores.
        """
        if self._embedding is None:
            raise DataError("no image to segment: call set_image first")
        frame = geometry_of(self.model).frame
        boxes, single = _listed(box)
        masks: list[npt.NDArray[np.bool_]] = []
        scores: list[float] = []
        # one after the other, so that a mask does not depend on which others are asked for
        for each in boxes:
            scaled = frame.box(each, self._shape)[None].to(self._embedding.device)
            if return_scores:
                logits, score = decode_scored(self.model, self._embedding, scaled)
                scores.append(float(score))
            else:
                logits = decode(self.model, self._embedding, scaled)
            found = masks_from_logits(logits, self._shape, self._shape, frame, self.postprocess)
            masks.append(found[0].cpu().numpy())
        whole = masks[0] if single else np.stack(masks)
        if not return_scores:
            return whole
        return whole, np.asarray(scores[0] if single else scores, dtype=np.float32)


def _listed(box: Any) -> tuple[list[Box], bool]:
    """Return boxes as a list, and whether one alone was meant."""
    try:
        values = np.asarray(box.detach().cpu() if isinstance(box, Tensor) else box)
    except ValueError:
        raise DataError(f"expected boxes of four numbers x0, y0, x1, y1 each, got {box!r}") from None
    if values.ndim == 2 and len(values) and values.shape[1] == 4 and values.dtype.kind in "iuf":
        return [tuple(float(side) for side in each) for each in values], False  # type: ignore[misc]
    if values.ndim == 2 or not values.size:
        raise DataError(f"expected one box of four numbers x0, y0, x1, y1, or (n, 4) of them, got {values.shape}")
    return [box], True
