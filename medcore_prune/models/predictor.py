"""Segment one image with boxes, under the protocol of the model's family."""

import threading
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._support.errors import DataError
from ..data.prompts import Box
from .calls.call import undisturbed, working_on
from .families import geometry_of
from .protocol import Postprocess, decode, embed, masks_from_logits


class _Embedded(NamedTuple):
    """An image's embedding (1, C, h, w), and its size in pixels, (rows, columns)."""

    embedding: Tensor
    shape: tuple[int, int]


class Predictor:
    """Embed an image once, then ask for as many boxes as wanted.

    Not a drop-in for segment-anything's `SamPredictor`, which normalises and pads another way (METHOD section 11).

    Args:
        model: A `Sam`, pruned or not, in evaluation mode.
        postprocess: `"medsam"` (probabilities resized, cut at 0.5) or `"logits"`.

    Several threads may share one: each segments the image that it has set itself, or, having set none, the one image
    that a single thread has set.

    Example:
        >>> Predictor(model).set_image(image).predict(box=(10, 20, 80, 90))
    """

    def __init__(self, model: nn.Module, postprocess: Postprocess = "medsam") -> None:
        self.model, self.postprocess = model, postprocess
        # a thread that has ended is forgotten, so that none of the same number takes its image over
        self._images: WeakKeyDictionary[threading.Thread, _Embedded] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type["Predictor"], tuple[nn.Module, Postprocess]]:
        """A copy has no image yet."""
        return (type(self), (self.model, self.postprocess))

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
        with working_on(self.model, refuse=None), undisturbed(autocast=True), torch.no_grad():
            device = next(self.model.parameters()).device
            pixels = geometry_of(self.model).frame.image(image)
            embedding = embed(self.model, pixels[None].to(device))
        self._images[threading.current_thread()] = _Embedded(embedding, (int(image.shape[0]), int(image.shape[1])))
        return self

    def predict(self, box: Box) -> npt.NDArray[np.bool_]:
        """Segment what a box encloses.

        Args:
            box: x0, y0, x1, y1 in pixels of the image.

        Returns:
            (H, W) bool.

        Raises:
            DataError: No image was set, or by two other threads; or the box is empty or outside of the image.
            MedcorePruneError: torch's default dtype is not float32.
        """
        embedding, shape = self._embedded()
        with working_on(self.model, refuse=None), undisturbed(autocast=True), torch.no_grad():
            frame = geometry_of(self.model).frame
            scaled = frame.box(box, shape)
            logits = decode(self.model, embedding, scaled[None].to(embedding.device))
            return masks_from_logits(logits, shape, shape, frame, self.postprocess)[0].cpu().numpy()

    def _embedded(self) -> "_Embedded":
        """The image that this thread has set, or the only one that any has."""
        if own := self._images.get(threading.current_thread()):
            return own
        others = list(self._images.values())
        if len(others) > 1:
            raise DataError(
                f"{len(others)} other threads have set an image of their own: call set_image in this thread too, or "
                "give each thread a Predictor"
            )
        if not others:
            raise DataError("no image to segment: call set_image first")
        return others[0]
