"""Segment one image with boxes, under the protocol of the model's family."""

import threading
from typing import Any, Literal, NamedTuple, TypeAlias, overload
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._support.errors import DataError
from ..data.foreign import as_image
from ..data.prompts import Box
from .calls.call import undisturbed, working_on
from .families import geometry_of
from .protocol import Postprocess, decode, decode_scored, embed, masks_from_logits

Boxes: TypeAlias = Box | npt.ArrayLike


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
        with working_on(self.model, refuse=None), undisturbed(autocast=True), torch.no_grad():
            device = next(self.model.parameters()).device
            values = as_image(image)
            pixels = geometry_of(self.model).frame.image(values)
            embedding = embed(self.model, pixels[None].to(device))
        self._images[threading.current_thread()] = _Embedded(embedding, (int(values.shape[0]), int(values.shape[1])))
        return self

    @overload
    def predict(self, box: Boxes, return_scores: Literal[False] = False) -> npt.NDArray[np.bool_]: ...
    @overload
    def predict(
        self, box: Boxes, return_scores: Literal[True]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]: ...

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
            DataError: No image was set, or by two other threads; no box was given, or one is empty or outside of the
                image.
            MedcorePruneError: torch's default dtype is not float32, or the model tells no scores.
        """
        embedding, shape = self._embedded()
        frame = geometry_of(self.model).frame
        boxes, single = _listed(box)
        scores: list[Tensor] = []
        with working_on(self.model, refuse=None), undisturbed(autocast=True), torch.no_grad():
            # to the device and back all together, so that it is not waited for box by box
            scaled = torch.stack([frame.box(each, shape) for each in boxes]).to(embedding.device)
            masks = torch.empty((len(boxes), *shape), dtype=torch.bool, device=embedding.device)
            # one after the other, so that a mask does not depend on which others are asked for
            for mask, each in zip(masks, scaled.split(1), strict=True):
                if return_scores:
                    logits, score = decode_scored(self.model, embedding, each)
                    scores.append(score)
                else:
                    logits = decode(self.model, embedding, each)
                mask.copy_(masks_from_logits(logits, shape, shape, frame, self.postprocess)[0])
        whole = _on_host(masks, single)
        return (whole, _on_host(torch.cat(scores).float(), single)) if return_scores else whole

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


def _on_host(values: Tensor, single: bool) -> Any:
    """Array of what belongs to each box, or of the one that was asked for."""
    found = values.cpu().numpy()
    return np.asarray(found[0]) if single else found


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
