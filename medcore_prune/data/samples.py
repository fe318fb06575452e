"""One image with its mask and box, and the shape of a set of them."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from .._support.errors import DataError, DataWarning
from .box_check import Pair, misreading, uncovering
from .images import to_rgb
from .mask_checks import no_photograph, photograph
from .prompts import Box, box_from_mask, check_box

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One image, one object.

    Attributes:
        dataset: Name of the data set, the sub-distribution D_k of Eq. 13.
        name: Name within the data set.
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) bool.
        box: x0, y0, x1, y1 in image pixels: the smallest and largest indices of the mask.
        group: What must stay on one side of a split: a video sequence, a patient, else the image.
        spacing_mm: Millimetres from row to row and from column to column of the image's pixels; None where nobody says.
    """

    dataset: str
    name: str
    image: npt.NDArray[np.uint8] = field(repr=False)
    mask: npt.NDArray[np.bool_] = field(repr=False)
    box: Box
    group: str
    spacing_mm: tuple[float, float] | None = None


class SampleSet(Protocol):
    """A finite, ordered data set whose items are read or made when asked for.

    Items are asked for by one thread at a time, not always the one that made the set. A set may also have
    `image_keys()`, a word for each sample's image that is equal where samples show one image: then each image is
    encoded once, wherever its samples stand. One that has a split of its own may say so: `roles`, a sequence of
    `"train"`, `"validation"` or `"test"`, one each; and one of drawn images: `synthetic`, True.
    """

    @property
    def name(self) -> str: ...

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image and mask pixels, and of a box that is not the mask's own (hex), in order."""
        ...


def subset_hash(samples: SampleSet) -> str:
    """Return one SHA-256 (hex) for a whole set: its name, ids and content hashes, in order.

    Args:
        samples: The set.

    Returns:
        64 characters.
    """
    lines = [samples.name, *(f"{i} {h}" for i, h in zip(samples.ids, samples.hashes(), strict=True))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


PERCEPTUAL_BITS = 255

_SIDE = 16
_REDUCED = 4 * _SIDE


def image_hash(image: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of an image's shape and pixels; the file format does not matter.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        64 characters.
    """
    return _digest(image)


def perceptual_hash(image: npt.NDArray[np.uint8]) -> str:
    """Return which low frequencies of an image lie above their median: 255 bits and a zero, as 64 hex digits.

    The gray image is reduced to 64 x 64 and its discrete cosine transform cut to 16 x 16; the mean is left out. That is
    `imagehash.phash(image, hash_size=16)` restated: the package would bring compiled wavelets that nothing here calls.

    Args:
        image: (H, W, 3) uint8.
    """
    gray = Image.fromarray(image).convert("L").resize((_REDUCED, _REDUCED), Image.Resampling.BOX)
    low = dctn(np.asarray(gray, dtype=np.float64), norm="ortho")[:_SIDE, :_SIDE].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes().hex()


def content_hash(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], box: Box | None = None) -> str:
    """Return the SHA-256 (hex) of a sample: its image's and its mask's shapes and pixels, and its box if it has one.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        box: A box prompt that is not the mask's own; None where the mask tells it.

    Returns:
        64 characters.
    """
    return _digest(image, mask.astype(np.uint8), extra="" if box is None else repr(tuple(map(float, box))))


def _digest(*arrays: npt.NDArray[np.uint8], extra: str = "") -> str:
    digest = hashlib.sha256(extra.encode())
    for array in arrays:
        digest.update(f"{'x'.join(map(str, array.shape))};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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

    def image_keys(self) -> Sequence[str]:
        """SHA-256 of each sample's image pixels (hex), in order."""
        return [image_hash(sample.image) for sample in self.samples]

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
        DataError: Arrays of another kind, lists of different lengths, an empty mask, a photograph as a mask or a mask
            as an image, boxes that are not corners in pixels, a name given twice; all samples in one message.
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
    if boxes is not None:
        beside = {each.name: Pair.of(each.box, box_from_mask(each.mask), each.mask) for each in made}
        problems += [said] if (said := misreading(list(beside.values()))) else []
        if not problems and (odd := uncovering(beside)):
            warnings.warn(f"{name}: {odd}", DataWarning, stacklevel=2)
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
    if said := photograph(object_) or no_photograph(pixels):
        raise DataError(said)
    tight = box_from_mask(object_ != 0)
    return Sample(dataset, name, pixels, object_ != 0, tight if box is None else check_box(box, object_.shape), group)


@dataclass(frozen=True)
class Subset:
    """Chosen samples of a data set; a `SampleSet`.

    Attributes:
        parent: The whole set.
        indices: Positions in it, in the order of this set.
        name: Name of this set and of its samples' data set.
    """

    parent: SampleSet
    indices: tuple[int, ...]
    name: str

    def __repr__(self) -> str:
        return f"Subset({self.name!r}, {len(self)} of {len(self.parent)} samples)"

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        return self._pick(self.parent.ids)

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        return self._pick(self.parent.groups)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.parent[self.indices[index]], dataset=self.name)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image and mask pixels (hex), in order."""
        return self._pick(self.parent.hashes())

    def image_keys(self) -> Sequence[str] | None:
        """What tells which samples show one image, as `image_keys` says of the whole set."""
        if isinstance(self.parent, ArraySet):
            # of these alone: there is nothing to look up, all are hashed
            return [image_hash(self.parent[index].image) for index in self.indices]
        known = image_keys(self.parent)
        return None if known is None else self._pick(known)

    def image_hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image pixels (hex), in order."""
        return self._pick(image_hashes(self.parent))

    def perceptual_hashes(self) -> Sequence[str]:
        """`perceptual_hash` of each sample's image, in order."""
        return self._pick(perceptual_hashes(self.parent))

    def renew(self) -> None:
        """Have the whole set look at its files again."""
        renew(self.parent)

    @property
    def roles(self) -> Sequence[str | None] | None:
        """The part of a published split that each sample is in, in order; None where there is none."""
        found = own_roles(self.parent)
        return None if found is None else self._pick(found)

    @property
    def synthetic(self) -> bool:
        """Whether images of the whole set are drawn."""
        return bool(getattr(self.parent, "synthetic", False))

    def _pick(self, values: Sequence[T]) -> list[T]:
        return [values[index] for index in self.indices]


def renew(samples: SampleSet) -> None:
    """Have a set that keeps hashes of files look at them again, as work begins; others have nothing to look at."""
    look = getattr(samples, "renew", None)
    if look is not None:
        look()


def at_most(samples: SampleSet, most: int) -> SampleSet:
    """Return a set, or of a larger one so many samples, always the same ones, drawn from all of it and in its order."""
    if len(samples) <= most:
        return samples
    drawn = np.random.default_rng(0).permutation(len(samples))[:most]
    return Subset(samples, tuple(sorted(int(index) for index in drawn)), samples.name)


def own_roles(samples: SampleSet) -> Sequence[str | None] | None:
    """Return each sample's part of the split that a data set has of its own (`roles`), in order; None without one."""
    found = getattr(samples, "roles", None)
    return found if found and any(found) else None


def only_training(samples: SampleSet) -> SampleSet:
    """Return a data set, or of one that has a split of its own the training part."""
    own = own_roles(samples)
    if own is None:
        return samples
    return Subset(samples, tuple(index for index, role in enumerate(own) if role == "train"), samples.name)


def image_hashes(samples: SampleSet) -> Sequence[str]:
    """Return SHA-256 of each sample's image pixels (hex); sets that do not keep them are read through."""
    kept = getattr(samples, "image_hashes", None)
    return kept() if kept is not None else [image_hash(sample.image) for sample in samples]


def image_keys(samples: SampleSet) -> Sequence[str] | None:
    """Return a word for each sample's image, equal where samples show one image, without reading any file.

    None for a set that knows neither its files (`image_keys`) nor its images (`image_hashes`). The words only say where
    to look: whoever relies on them compares the pixels as they are read.
    """
    kept = getattr(samples, "image_keys", None) or getattr(samples, "image_hashes", None)
    return None if kept is None else kept()


def places_by_image(sets: Mapping[str, SampleSet]) -> dict[str, str]:
    """Return where each image of some sets is, as `set/name`, by the SHA-256 of its pixels."""
    return {
        digest: f"{name}/{sample}"
        for name, samples in sets.items()
        for sample, digest in zip(samples.ids, image_hashes(samples), strict=True)
    }


def perceptual_hashes(samples: SampleSet) -> Sequence[str]:
    """Return `perceptual_hash` of each sample's image, in order; sets that do not keep them are read through."""
    kept = getattr(samples, "perceptual_hashes", None)
    return kept() if kept is not None else [perceptual_hash(sample.image) for sample in samples]
