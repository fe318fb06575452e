"""Images and masks as other libraries hold them: tensors, PIL images, MONAI's dictionaries, torch's data sets."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from .._support.errors import DataError
from .images import read_image, to_rgb
from .masks import binarise
from .samples import ArraySet, arrays, image_hash

Key: TypeAlias = str | int | Callable[[Any], Any]
"""Where an item of a data set holds something: the key of a dictionary, a place in a tuple, or a function of it."""

_CHANNELS = (1, 3, 4)
_ID_DIGITS = 16


def as_image(image: Any) -> npt.NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB.

    Args:
        image: A path, a PIL image, an array or a tensor: (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels (of a
            tensor the channels come first where both would fit, of others last). uint8, bool, or floats in [0, 1], or
            floats that are whole numbers up to 255. Alpha is dropped.

    Raises:
        DataError: Another shape or number type, or values that leave open what black and white are.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    values = _values(image)
    values = _channels_last(values, isinstance(image, Tensor)) if values.ndim == 3 else values
    values = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return np.ascontiguousarray(to_rgb(_eight_bits(values)))


def as_mask(mask: Any) -> npt.NDArray[np.bool_]:
    """Return a mask as (H, W) bool.

    Args:
        mask: A PIL image, an array or a tensor: (H, W), (1, H, W) or (H, W, 1); what is object is told by the rule of
            `read_mask`: any value above 0, but of probabilities and shades those above half of the range.

    Raises:
        DataError: Several channels, or values that are not finite.
    """
    values = _values(mask)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"expected a mask of shape (H, W) or (1, H, W), got {values.shape}: choose one channel")
    if values.dtype.kind not in "buif" or not np.isfinite(values.astype(np.float64)).all():
        raise DataError(f"expected a mask of finite numbers, got {values.dtype}")
    return binarise(values)


def _values(given: Any) -> npt.NDArray[np.generic]:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return np.asarray((given.float() if given.is_floating_point() else given).numpy())
    values = np.asarray(given)
    if values.dtype.kind not in "buif":
        raise DataError(f"expected an image as an array, a tensor, a PIL image or a path, got {type(given).__name__}")
    return values


def _channels_last(values: npt.NDArray[np.generic], first: bool) -> npt.NDArray[np.generic]:
    fits_first, fits_last = values.shape[0] in _CHANNELS, values.shape[2] in _CHANNELS
    return np.moveaxis(values, 0, 2) if fits_first and (first or not fits_last) else values


def _eight_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind != "f":
        raise DataError(f"expected an image of uint8 values or floats in [0, 1], got {values.dtype}: scale it")
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    # NaN is neither
    if low >= 0 and high <= 1:
        return np.rint(numbers * 255).astype(np.uint8)
    if low >= 0 and high <= 255 and np.array_equal(numbers, np.rint(numbers)):
        return numbers.astype(np.uint8)
    raise DataError(
        f"expected an image of floats in [0, 1], got {low:.3g} to {high:.3g}: leave out the normalisation, or scale it"
    )


def from_torch(
    dataset: Any,
    image: Key = "image",
    mask: Key = "mask",
    *,
    box: Key | None = None,
    group: Key | None = None,
    name: str = "torch",
) -> ArraySet:
    """Read a torch data set, a `DataLoader`, or any iterable of such items, once, into memory.

    What random transforms make of an image is kept as it came. Of a `DataLoader` batches are taken apart; where it
    draws its order, images are ordered and named by their content, so that a split does not depend on the draw.

    Args:
        dataset: Items are dictionaries (MONAI's too), tuples or objects.
        image: Where an item holds its image, as `as_image` takes it: a key, a place (0, 1, ...), or a function.
        mask: Where it holds its mask, as `as_mask` takes it.
        box: Where it holds x0, y0, x1, y1 in image pixels; by default the mask's own.
        group: Where it holds what must stay on one side of a split: a patient, a video. By default each image is alone.
        name: Name of the data set.

    Returns:
        The set.

    Raises:
        DataError: Items without what is named, images or masks of other kinds; the first with its number.
    """
    read = {"images": (image, as_image), "masks": (mask, as_mask), "boxes": (box, _numbers), "groups": (group, _text)}
    columns: dict[str, list[Any]] = {column: [] for column, (key, _) in read.items() if key is not None}
    for number, item in enumerate(_items(dataset)):
        for column, values in columns.items():
            key, convert = read[column]
            try:
                values.append(convert(_part(item, key)))
            except DataError as error:
                raise DataError(f"{name}, item {number}, {column}: {error}") from error
    if not columns["images"]:
        raise DataError(f"{name}: no image; expected at least one")
    if not _is_drawn(dataset):
        return arrays(name, **columns)
    ids = [image_hash(each)[:_ID_DIGITS] for each in columns["images"]]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ordered = {column: [values[place] for place in order] for column, values in columns.items()}
    return arrays(name, **ordered, ids=sorted(ids))


def _items(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, DataLoader):
        is_batched = dataset.batch_sampler is not None
        for batch in dataset:
            yield from _apart(batch) if is_batched else [batch]
    elif isinstance(dataset, Iterable):
        yield from dataset
    elif hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        # a data set may do without an end of its own, which iteration would look for
        yield from (dataset[place] for place in range(len(dataset)))
    else:
        raise DataError(f"expected a torch data set, a DataLoader or a sequence of items, got {type(dataset).__name__}")


def _apart(batch: Any) -> Iterator[Any]:
    """Take a batch of dictionaries, tuples or lists apart."""
    if not isinstance(batch, Mapping | Sequence):
        raise DataError(f"expected batches that are dictionaries or tuples, got {type(batch).__name__}")
    named = dict(batch) if isinstance(batch, Mapping) else dict(enumerate(batch))
    # what holds no item for each sample, as metadata may, is left out
    parts = {key: part for key, part in named.items() if isinstance(part, Tensor | np.ndarray | list | tuple)}
    counts = {len(part) for part in parts.values()}
    if len(counts) != 1:
        raise DataError(f"expected batches with one item a sample in each part, got {sorted(counts)} items")
    yield from ({key: part[place] for key, part in parts.items()} for place in range(counts.pop()))


def _is_drawn(dataset: Any) -> bool:
    """Whether a loader draws its order anew each time."""
    sampler: Sampler[Any] | None = getattr(dataset, "sampler", None) if isinstance(dataset, DataLoader) else None
    return sampler is not None and not isinstance(sampler, SequentialSampler)


def _part(item: Any, key: Any) -> Any:
    if callable(key):
        return key(item)
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        there = f"keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
        raise DataError(
            f"expected an item with {key!r}, got {there}: say where it is, by key, place or function"
        ) from None


def _numbers(box: Any) -> list[float]:
    return [float(side) for side in _values(box).ravel()]


def _text(group: Any) -> str:
    return str(group.item() if isinstance(group, Tensor) else group)
