"""Images and masks that are in memory, as a data set."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._support.errors import DataError
from .content import content_hash
from .images import to_rgb
from .prompts import box_from_mask, check_box
from .types import Sample


@dataclass(frozen=True)
class ArraySet:
    """A data set of samples in memory; a `SampleSet`.

    Attributes:
        name: Name of the data set.
        samples: In order.
    """

    name: str
    samples: tuple[Sample, ...]

    def __repr__(self) -> str:
        return f"ArraySet({self.name!r}, {len(self)} samples)"

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        return [sample.name for sample in self.samples]

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        return [sample.group for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image, mask and given box (hex), in order."""
        own = (None if sample.box == box_from_mask(sample.mask) else sample.box for sample in self.samples)
        return [content_hash(sample.image, sample.mask, box) for sample, box in zip(self.samples, own, strict=True)]


def arrays(
    name: str,
    images: Iterable[npt.ArrayLike],
    masks: Iterable[npt.ArrayLike],
    *,
    boxes: Iterable[Sequence[float]] | None = None,
    ids: Iterable[str] | None = None,
    groups: Iterable[str] | None = None,
) -> ArraySet:
    """Make a data set of images and masks in memory, whatever library they were read with.

    All are kept as they are; for more images than memory holds, use `folder`, or an own class with the members of
    `SampleSet`.

    Args:
        name: Name of the data set.
        images: (H, W, 3) RGB, (H, W) gray, or (H, W, 4) with an alpha that is dropped; uint8. Sizes may differ.
        masks: (H, W) each, of its image's size; what is not 0 is the object. At least one pixel is.
        boxes: x0, y0, x1, y1 in image pixels; by default those of the masks.
        ids: Names of the samples; by default their numbers.
        groups: What must stay on one side of a split: a patient, a video. By default each image is its own.

    Returns:
        The set.

    Raises:
        DataError: Arrays of another kind, lists of different lengths, an empty mask, a name given twice; all samples
            in one message.
    """
    pairs = _together(name, images=images, masks=masks, boxes=boxes, ids=ids, groups=groups)
    made: list[Sample] = []
    problems: list[str] = []
    for number, (image, mask, box, given, group) in enumerate(pairs):
        sample_name = f"{number:06d}" if given is None else str(given)
        try:
            made.append(_sample(name, sample_name, image, mask, box, sample_name if group is None else str(group)))
        except DataError as error:
            problems.append(f"{sample_name}: {error}")
    names = [sample.name for sample in made]
    problems += [f"{each}: a name for the second time" for each in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{name}: {'; '.join(problems[:5])}{more}")
    return ArraySet(name, tuple(made))


def _together(name: str, **columns: Iterable[Any] | None) -> list[tuple[Any, ...]]:
    held = {column: None if values is None else list(values) for column, values in columns.items()}
    lengths = {column: len(values) for column, values in held.items() if values is not None}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{name}: {', '.join(f'{n} {column}' for column, n in lengths.items())}: expected one each")
    count = lengths["images"]
    if not count:
        raise DataError(f"{name}: no image; expected at least one")
    return list(zip(*(values if values is not None else [None] * count for values in held.values()), strict=True))


def _sample(
    dataset: str, name: str, image: npt.ArrayLike, mask: npt.ArrayLike, box: Sequence[float] | None, group: str
) -> Sample:
    pixels, object_ = np.asarray(image), np.asarray(mask)
    pixels = to_rgb(pixels)
    if object_.shape != pixels.shape[:2]:
        raise DataError(f"expected a mask of the image's shape {pixels.shape[:2]}, got {object_.shape}")
    if not (object_.dtype == bool or np.isfinite(object_).all()):
        raise DataError("the mask holds values that are not finite")
    tight = box_from_mask(object_ != 0)
    return Sample(dataset, name, pixels, object_ != 0, tight if box is None else check_box(box, object_.shape), group)
