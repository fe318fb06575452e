"""How good a model's masks are: images in, one row of metrics an image out."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from .._support.devices import require_default_dtype
from .._support.errors import DataError
from .._support.progress import track
from ..data.splits.beside import warn_of_seen, warn_of_trained
from ..data.splits.split import Data, Split, named_sets
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.pairs import places_of, trained_on
from ..models.protocol import Postprocess, input_logits, low_res_logits, masks_from_logits, rows_of
from .images import EvalSize, EvaluationSet
from .metrics import MaskMetrics, evaluate_mask, hd95_mm
from .packed import PackedMasks

BATCH_SIZE = 16
"""Images at a time, unless said otherwise."""

Masks = Sequence[npt.NDArray[np.bool_]]
"""One (H, W) mask a sample."""
_METRICS = tuple(MaskMetrics.__dataclass_fields__)


@torch.no_grad()
def predicted(
    model: nn.Module, images: EvaluationSet, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Run a model over a set: positions of some samples, and their low-resolution logits (B, 1, h, w).

    The encoder runs once an image, whatever the boxes on it, and at most `batch_size` boxes are decoded together.
    """
    for batch in images.batches(batch_size, next(model.parameters()).device):
        yield batch.positions, low_res_logits(model, batch.images, batch.boxes, batch.owner, batch_size)


@on_models("model", refuse=None, autocast=True)
@torch.no_grad()
def low_res_of(model: nn.Module, images: EvaluationSet, batch_size: int = BATCH_SIZE) -> Tensor:
    """Low-resolution logits of a whole set, (samples, 1, h, w), in its order."""
    positions, parts = zip(*predicted(model, images, batch_size), strict=True)
    row_of = {position: row for row, position in enumerate(chain.from_iterable(positions))}
    return rows_of(torch.cat(parts), [row_of[position] for position in range(len(images))])


def predict(
    model: nn.Module,
    images: EvaluationSet,
    *,
    postprocess: Postprocess = "medsam",
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> PackedMasks:
    """Predict each sample's mask on its evaluation grid by a `Sam` of the set's input size, in evaluation mode."""
    masks = PackedMasks()
    batches = predicted(model, images, batch_size)
    total = -(-images.most_images // batch_size)
    for positions, logits in track(batches, f"predicting {images.name}", total=total, show=progress):
        for position, mask in zip(positions, masks_of(logits, images, positions, postprocess), strict=True):
            masks[position] = mask
    return masks


@torch.no_grad()
def masks_of(
    logits: Tensor,
    images: EvaluationSet,
    positions: Sequence[int] | None = None,
    postprocess: Postprocess = "medsam",
) -> list[npt.NDArray[np.bool_]]:
    """Turn low-resolution logits (B, 1, h, w) of some samples, of all by default, into masks on the evaluation grid."""
    places = [images.place(position) for position in (range(len(images)) if positions is None else positions)]
    keys = [(place.shape, place.grid) for place in places]
    if len(set(keys)) == 1:
        return list(masks_from_logits(logits, *keys[0], images.frame, postprocess).cpu().numpy())
    pairs = zip(logits, keys, strict=True)
    found = [masks_from_logits(one[None], *key, images.frame, postprocess)[0] for one, key in pairs]
    # all of them are asked for before the first is waited for
    return [mask.cpu().numpy() for mask in found]


def grid_logits(logits: Tensor, images: EvaluationSet, start: int = 0, size: int = 256) -> Tensor:
    """Bring low-resolution logits of samples from `start` on to a square grid that covers each image, bilinearly.

    (B, 1, h, w) to (B, 1, size, size): the grid on which true masks of that size lie, whatever the model's frame.
    """
    if not images.frame.padded:
        return input_logits(logits, size)
    shapes = [images.place(position).shape for position in range(start, start + len(logits))]
    cropped = [images.frame.crop(one[None], shape) for one, shape in zip(logits, shapes, strict=True)]
    return torch.cat([input_logits(one, size) for one in cropped])


def score(masks: Masks, images: EvaluationSet, *, tolerance_px: float = 2.0) -> pd.DataFrame:
    """Compare predicted masks with the true ones: a row an image of `dataset`, `name`, `group` and `MaskMetrics`.

    Where the pixel spacing of an image is known there is a column `hd95_mm` too, NaN for those of which nobody says.

    The tolerance of Boundary F1 is in pixels of the 256 grid, and scales with the root of another grid's area. HD95 is
    in pixels of the set's grid, brought to them likewise for images that keep their own size.
    """
    rows = [
        evaluate_mask(predicted, true, tolerance_px=tolerance_px, pixel_scale=math.sqrt(true.size) / 256)
        for predicted, true in zip(masks, images.true_masks, strict=True)
    ]
    table = pd.DataFrame([[getattr(row, name) for name in _METRICS] for row in rows], columns=list(_METRICS))
    table["hd95_px"] *= images.pixels_of_grid
    if any(images.spacings_mm):
        triples = zip(masks, images.true_masks, images.spacings_mm, strict=True)
        table["hd95_mm"] = [math.nan if mm is None else hd95_mm(mask, true, mm) for mask, true, mm in triples]
    for position, (name, values) in enumerate(
        (("dataset", images.name), ("name", images.ids), ("group", images.groups))
    ):
        table.insert(position, name, values)
    return table


@on_models("model", refuse=None, autocast=True)
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

    Images that the model was trained on, by the split that lies beside the file that it was loaded from or by `adapt`
    and `recover` since, are named in a `TrainedOnWarning`.

    Images whose object is gone from the grid are compared at their own size, and named in a warning.

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
    sets = named_sets(data.test if isinstance(data, Split) else data, "evaluation")
    for place in places_of(model):
        warn_of_seen(sets, place)
    warn_of_trained(sets, trained_on(model))
    for samples in sets.values():
        images = EvaluationSet(samples, frame, eval_size, kept_bytes=0)
        masks = predict(model, images, postprocess=postprocess, batch_size=batch_size, progress=progress)
        images.warn()
        tables.append(score(masks, images, tolerance_px=tolerance_px))
    if not tables:
        raise DataError("no data set to evaluate on: expected at least one with images")
    return pd.concat(tables, ignore_index=True)


def macro_average(table: pd.DataFrame, metrics: tuple[str, ...] = ("dice", "iou", "bf1", "hd95_px")) -> pd.Series:
    """Mean over data sets of the per-data-set means (METHOD section 10)."""
    return table.groupby("dataset")[list(metrics)].mean().mean()
