"""How good a model's masks are: images in, one row of metrics an image out."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from .._support.devices import require_default_dtype
from .._support.errors import DataError
from .._support.progress import track
from ..data.frame import Frame
from ..data.masks import resize_mask
from ..data.samples import SampleSet
from ..data.splits.split import Data, Split, named_sets
from ..models.families import geometry_of
from ..models.protocol import Postprocess, batch_of, input_logits, low_res_logits, masks_from_logits
from .metrics import MaskMetrics, evaluate_mask, hd95_mm

BATCH_SIZE = 16
"""Images at a time, unless said otherwise."""

Masks = Sequence[npt.NDArray[np.bool_]]
"""One (H, W) mask an image."""
EvalSize = int | Literal["original"]
"""Side in pixels of the square grid on which masks are compared, or each image's own size."""
_METRICS = tuple(MaskMetrics.__dataclass_fields__)


class EvaluationSet:
    """A data set made ready once for many models: input tensors, boxes, and true masks on the evaluation grid.

    Args:
        samples: Images, masks and boxes.
        frame: How images lie in the model's input.
        eval_size: Side in pixels of the square grid on which masks are compared (METHOD section 10), or `"original"`.

    Attributes:
        grids: (H, W) of the grid of each image.
        shapes: (H, W) of each image.
        spacings_mm: Millimetres from row to row and from column to column of each grid; None where nobody says.
    """

    def __init__(self, samples: SampleSet, frame: Frame, eval_size: EvalSize = 256) -> None:
        if not len(samples):
            raise DataError(f"data set {samples.name!r} holds no image to evaluate on")
        if eval_size != "original" and (not isinstance(eval_size, int) or eval_size < 1):
            raise DataError(f"the evaluation grid: expected at least 1 pixel a side, or 'original', got {eval_size!r}")
        self.name, self.frame = samples.name, frame
        self.ids, self.groups = list(samples.ids), list(samples.groups)
        images, boxes, self.true_masks, self.eval_boxes = [], [], [], []
        self.grids: list[tuple[int, int]] = []
        self.shapes: list[tuple[int, int]] = []
        self.spacings_mm: list[tuple[float, float] | None] = []
        for sample in samples:
            image, box = batch_of([(sample.image, sample.box)], frame)
            images.append(image)
            boxes.append(box)
            height, width = sample.mask.shape
            rows, columns = (height, width) if eval_size == "original" else (eval_size, eval_size)
            self.shapes.append((height, width))
            self.spacings_mm.append(_on_grid(sample.spacing_mm, (height, width), (rows, columns)))
            self.grids.append((rows, columns))
            self.true_masks.append(sample.mask if eval_size == "original" else resize_mask(sample.mask, eval_size))
            x0, y0, x1, y1 = sample.box
            # the far edges of the last pixels, so that the scaled box covers them whole
            scaled = (x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height)
            left, top, right, bottom = (value * n for value, n in zip(scaled, (columns, rows) * 2, strict=True))
            self.eval_boxes.append((left, top, right - 1, bottom - 1))
        self.images, self.boxes = torch.cat(images), torch.cat(boxes)

    def __len__(self) -> int:
        return len(self.ids)


def _on_grid(
    spacing_mm: tuple[float, float] | None, shape: tuple[int, int], grid: tuple[int, int]
) -> tuple[float, float] | None:
    """Bring the spacing of an image's pixels to a grid that covers the image."""
    if spacing_mm is None:
        return None
    rows, columns = (mm * pixels / cells for mm, pixels, cells in zip(spacing_mm, shape, grid, strict=True))
    return rows, columns


@torch.no_grad()
def predict(
    model: nn.Module,
    images: EvaluationSet,
    *,
    postprocess: Postprocess = "medsam",
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Masks:
    """Predict the mask of every image on the evaluation grid by a `Sam` of the set's input size, in evaluation mode."""
    masks: list[npt.NDArray[np.bool_]] = []
    device = next(model.parameters()).device
    starts = range(0, len(images), batch_size)
    for start in track(starts, f"predicting {images.name}", total=len(starts), show=progress):
        part = slice(start, start + batch_size)
        logits = low_res_logits(model, *(each[part].to(device) for each in (images.images, images.boxes)))
        masks += masks_of(logits, images, start, postprocess)
    return masks


def masks_of(
    logits: Tensor, images: EvaluationSet, start: int = 0, postprocess: Postprocess = "medsam"
) -> list[npt.NDArray[np.bool_]]:
    """Turn low-resolution logits (B, 1, h, w) of images from `start` on into their masks on the evaluation grid."""
    places = range(start, start + len(logits))
    keys = [(images.shapes[place], images.grids[place]) for place in places]
    if len(set(keys)) == 1:
        return list(masks_from_logits(logits, *keys[0], images.frame, postprocess).cpu().numpy())
    pairs = zip(logits, keys, strict=True)
    return [masks_from_logits(one[None], *key, images.frame, postprocess)[0].cpu().numpy() for one, key in pairs]


def grid_logits(logits: Tensor, images: EvaluationSet, start: int = 0, size: int = 256) -> Tensor:
    """Bring low-resolution logits of images from `start` on to a square grid that covers each image, bilinearly.

    (B, 1, h, w) to (B, 1, size, size): the grid on which true masks of that size lie, whatever the model's frame.
    """
    if not images.frame.padded:
        return input_logits(logits, size)
    shapes = images.shapes[start : start + len(logits)]
    cropped = [images.frame.crop(one[None], shape) for one, shape in zip(logits, shapes, strict=True)]
    return torch.cat([input_logits(one, size) for one in cropped])


def score(masks: Masks, images: EvaluationSet, *, tolerance_px: float = 2.0) -> pd.DataFrame:
    """Compare predicted masks with the true ones: a row an image of `dataset`, `name`, `group` and `MaskMetrics`.

    Where the pixel spacing of an image is known there is a column `hd95_mm` too, NaN for those of which nobody says.

    The tolerance of Boundary F1 is in pixels of the 256 grid, and scales with the root of another grid's area.
    """
    rows = [
        evaluate_mask(predicted, true, tolerance_px=tolerance_px, pixel_scale=math.sqrt(true.size) / 256)
        for predicted, true in zip(masks, images.true_masks, strict=True)
    ]
    table = pd.DataFrame([[getattr(row, name) for name in _METRICS] for row in rows], columns=list(_METRICS))
    if any(images.spacings_mm):
        triples = zip(masks, images.true_masks, images.spacings_mm, strict=True)
        table["hd95_mm"] = [math.nan if mm is None else hd95_mm(mask, true, mm) for mask, true, mm in triples]
    for position, (name, values) in enumerate(
        (("dataset", images.name), ("name", images.ids), ("group", images.groups))
    ):
        table.insert(position, name, values)
    return table


def evaluate(
    model: nn.Module,
    data: Data,
    *,
    eval_size: EvalSize = 256,
    tolerance_px: float = 2.0,
    postprocess: Postprocess = "medsam",
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate a model on data sets under MedSAM's protocol.

    Within a `torch.autocast` block the model runs in that block's number type, and the figures are of such a run.

    Args:
        model: A `Sam`, pruned or not.
        data: A split, whose test part is evaluated, or images by data set, or one data set.
        eval_size: Side in pixels of the grid on which masks are compared, or `"original"` for each image's own.
        tolerance_px: Of Boundary F1, in pixels of the 256 grid.
        postprocess: `"medsam"` or `"logits"`.
        batch_size: Images at a time.
        progress: Show how far it is.

    Returns:
        A row an image and data set.

    Raises:
        DataError: No data set, or an empty one.
        MedcorePruneError: The model is of half precision, or torch's default dtype is not float32.
    """
    require_default_dtype()
    frame = geometry_of(model).frame
    tables = []
    for samples in (data.test if isinstance(data, Split) else named_sets(data, "evaluation")).values():
        images = EvaluationSet(samples, frame, eval_size)
        masks = predict(model, images, postprocess=postprocess, batch_size=batch_size, progress=progress)
        tables.append(score(masks, images, tolerance_px=tolerance_px))
    if not tables:
        raise DataError("no data set to evaluate on: expected at least one with images")
    return pd.concat(tables, ignore_index=True)


def macro_average(table: pd.DataFrame, metrics: tuple[str, ...] = ("dice", "iou", "bf1", "hd95_px")) -> pd.Series:
    """Mean over data sets of the per-data-set means (METHOD section 10)."""
    return table.groupby("dataset")[list(metrics)].mean().mean()
