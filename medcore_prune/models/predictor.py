"""Segment one image with boxes, under the protocol of the model's family."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._support.errors import DataError
from ..data.prompts import Box
from .families import geometry_of
from .protocol import Postprocess, decode, embed, masks_from_logits


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
    def set_image(self, image: npt.NDArray[np.uint8]) -> "Predictor":
        """Embed an image.

        Args:
            image: (H, W), (H, W, 3) or (H, W, 4) uint8.

        Returns:
            The predictor itself.

        Raises:
            DataError: Not such an image.
            MedcorePruneError: The model is of half precision, or torch's default dtype is not float32.
        """
        device = next(self.model.parameters()).device
        pixels = geometry_of(self.model).frame.image(image)
        self._embedding = embed(self.model, pixels[None].to(device))
        self._shape = (int(image.shape[0]), int(image.shape[1]))
        return self

    @torch.no_grad()
    def predict(self, box: Box) -> npt.NDArray[np.bool_]:
        """Segment what a box encloses.

        Args:
            box: x0, y0, x1, y1 in pixels of the image.

        Returns:
            (H, W) bool.

        Raises:
            DataError: No image was set, or the box is empty or outside of the image.
            MedcorePruneError: torch's default dtype is not float32.
        """
        if self._embedding is None:
            raise DataError("no image to segment: call set_image first")
        frame = geometry_of(self.model).frame
        scaled = frame.box(box, self._shape)
        logits = decode(self.model, self._embedding, scaled[None].to(self._embedding.device))
        return masks_from_logits(logits, self._shape, self._shape, frame, self.postprocess)[0].cpu().numpy()
