"""A data set made ready for many models: images read when they are needed, each once, whatever the boxes on it."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._support.ahead import ahead
from .._support.devices import free_bytes
from .._support.errors import DataError, MedcorePruneWarning
from .._support.words import few_of
from ..data.frame import Frame
from ..data.masks import resize_mask
from ..data.prompts import Box
from ..data.reading import by_image, replaced
from ..data.samples import Sample, SampleSet, image_hash
from .packed import PackedMasks

EvalSize = int | Literal["original"]
"""Side in pixels of the square grid on which masks are compared, or each image's own size."""
KEPT_BYTES = 2_000_000_000
"""Most bytes of images that an `EvaluationSet` keeps in memory for the next model."""
_OF_FREE = 4
"""Of a device's free memory, one part in so many is taken for the images of all sets."""


@dataclass(frozen=True)
class ImageBatch:
    """Some images with all boxes on them, which come image by image.

    Attributes:
        positions: Of the samples in their set, a box each.
        images: (N, 3, S, S) float32 in [0, 1].
        boxes: (B, 4) in input pixels.
        owner: The image of each box, its place among the N.
    """

    positions: tuple[int, ...]
    images: Tensor
    boxes: Tensor
    owner: tuple[int, ...]

    def to(self, device: torch.device) -> "ImageBatch":
        """Return the batch on a device; the processor does not wait for pinned memory to be copied."""
        images, boxes = (each.to(device, non_blocking=True) for each in (self.images, self.boxes))
        return ImageBatch(self.positions, images, boxes, self.owner)


@dataclass(frozen=True)
class Place:
    """Where one sample's mask is compared: (H, W) of its image and of the grid, and its box on that grid.

    `spacing_mm` are millimetres from row to row and from column to column of the grid; None where nobody says.
    """

    shape: tuple[int, int]
    grid: tuple[int, int]
    box: Box
    spacing_mm: tuple[float, float] | None = None


@dataclass
class _Image:
    """One image with the samples that show it: its pixels' hash, and what is kept of it, pixels or input, if any."""

    digest: str
    positions: list[int] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    kept: npt.NDArray[np.uint8] | Tensor | None = None


class EvaluationSet:
    """A data set made ready once for many models: boxes and true masks on the evaluation grid, and images in batches.

    An object of a few pixels may vanish on the grid, where finding nothing would then be perfect: such images keep
    their own size, as with `"original"`.

    Nothing is read before it is asked for. Images are kept for the next model as long as they fit into `kept_bytes`, as
    they were read or as the model's input, whichever is smaller; the others are read again, and refused if they are no
    longer the same. True masks are kept packed. On a CUDA device the first inputs stay besides, as long as those of all
    sets fit into a quarter of its free memory.

    Args:
        samples: Images, masks and boxes. Samples that show one image are found by its pixels: those of one file
            wherever they stand, of a set of one's own those that stand together, or that its `image_keys` say.
        frame: How images lie in the model's input.
        eval_size: Side in pixels of the square grid on which masks are compared (METHOD section 10), or `"original"`.
        kept_bytes: Most bytes of images to keep in memory; 0 for a single model, for which nothing stays anywhere.
        device_bytes: Most bytes of inputs that stay on a CUDA device, for work that reckons with so many; None where
            its free memory alone says.

    Attributes:
        most_images: How many different images there are at most, as far as that is known before they are read.
    """

    def __init__(
        self,
        samples: SampleSet,
        frame: Frame,
        eval_size: EvalSize = 256,
        kept_bytes: int = KEPT_BYTES,
        device_bytes: int | None = None,
    ) -> None:
        if not len(samples):
            raise DataError(f"data set {samples.name!r} holds no image to evaluate on")
        if eval_size != "original" and (not isinstance(eval_size, int) or eval_size < 1):
            raise DataError(f"the evaluation grid: expected at least 1 pixel a side, or 'original', got {eval_size!r}")
        self.name, self.frame = samples.name, frame
        self.ids, self.groups = list(samples.ids), list(samples.groups)
        self._samples, self._eval_size, self._kept_bytes = samples, eval_size, kept_bytes
        self._device_bytes = math.inf if device_bytes is None else device_bytes
        images = by_image(samples)
        self.most_images, self._order = len(images), [position for image in images for position in image]
        self._places: dict[int, Place] = {}
        self._truths, self._vanished = PackedMasks(), set[int]()
        self._images: list[_Image] | None = None
        self._on_device = _OnDevice(torch.device("cpu"), 0)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def true_masks(self) -> Sequence[npt.NDArray[np.bool_]]:
        """One (H, W) mask a sample, on its grid."""
        self._read_all()
        return self._truths

    @property
    def places(self) -> Sequence[Place]:
        """Shapes, grids and boxes of all samples."""
        self._read_all()
        return [self._places[position] for position in range(len(self))]

    @property
    def vanished(self) -> list[str]:
        """Names of the images whose object is gone from the grid."""
        self._read_all()
        return [self.ids[position] for position in sorted(self._vanished)]

    @property
    def pixels_of_grid(self) -> list[float]:
        """Of each image that keeps its size, pixels of the set's grid to one of its own (root of areas); else 1."""
        size = self._eval_size
        if isinstance(size, str):
            return [1.0] * len(self)
        return [size / math.sqrt(place.grid[0] * place.grid[1]) for place in self.places]

    @property
    def spacings_mm(self) -> list[tuple[float, float] | None]:
        """Millimetres from row to row and from column to column of each grid; None where nobody says."""
        return [place.spacing_mm for place in self.places]

    @property
    def note(self) -> str:
        """Which images are compared at their own size, in words; "" where none is."""
        if not (names := self.vanished):
            return ""
        return (
            f"{len(names)} of {len(self)} images of {self.name} are compared at their own size, for their object is "
            f"gone from the grid of {self._eval_size} x {self._eval_size} pixels: {few_of(names)}"
        )

    def warn(self) -> None:
        """Warn where images are compared at their own size."""
        if self.note:
            warnings.warn(self.note, MedcorePruneWarning, stacklevel=3)

    def place(self, position: int) -> Place:
        """Shape, grid and box of a sample."""
        return self._places[position] if position in self._places else self.places[position]

    def batches(self, batch_size: int, device: torch.device | str = "cpu") -> Iterator[ImageBatch]:
        """Yield all images on a device, at most `batch_size` at a time; the next ones are read meanwhile."""
        place = torch.device(device)
        if not self._on_device.fits(place, batch_size):
            self._on_device = _OnDevice(place, batch_size)
        kept = self._on_device.batches
        yield from kept
        done = sum(len(batch.images) for batch in kept)
        if self._images is not None and done == len(self._images):
            return
        room = self._room_on(place)
        more = _OnDevice(place, batch_size)
        for batch in ahead(self._made(batch_size, done, pinned=place.type == "cuda")):
            there = batch.to(place)
            room -= there.images.nbytes
            if room >= 0:
                more.batches.append(there)
            yield there
        self._on_device = _OnDevice(place, batch_size, [*kept, *more.batches])

    def _room_on(self, device: torch.device) -> float:
        """Bytes that more images may take on a device beside what is kept in memory; a model's work goes first."""
        if device.type != "cuda" or not self._kept_bytes:
            return 0
        return min(self._device_bytes - self._on_device.nbytes, _room_on(device))

    def _made(self, batch_size: int, done: int, pinned: bool) -> Iterator[ImageBatch]:
        """Put batches together, without the first `done` images."""
        size = self.frame.size
        found: list[_Image] = []
        room = None
        for image, pixels in self._read(done):
            if room is None:
                room = torch.empty((batch_size, 3, size, size), dtype=torch.float32, pin_memory=pinned)
            room[len(found)] = pixels
            found.append(image)
            if len(found) == batch_size:
                yield _batch(found, room, pinned)
                found, room = [], None
        if found and room is not None:
            yield _batch(found, room[: len(found)], pinned)

    def _read_all(self) -> None:
        if len(self._truths) < len(self):
            for _ in self._read():
                pass

    def _read(self, start: int = 0) -> Iterator[tuple[_Image, Tensor]]:
        """Yield each image from `start` on with its input, (3, S, S), in the same order each time."""
        if self._images is not None:
            for image in self._images[start:]:
                yield image, self._input(image)
            return
        images = []
        for image, pixels in self._first_reading():
            images.append(image)
            yield image, pixels
        self._images = images

    def _first_reading(self) -> Iterator[tuple[_Image, Tensor]]:
        """Read all samples; those that show one image come together, known by its pixels."""
        image, pixels, left = _Image(""), torch.empty(0), self._kept_bytes
        for position in self._order:
            sample = self._samples[position]
            if (digest := image_hash(sample.image)) != image.digest:
                if image.positions:
                    yield image, pixels
                # at once, since a set may use the room of one image for the next
                image, pixels = _Image(digest), self.frame.image(sample.image)
                smaller = min(pixels.nbytes, sample.image.nbytes)
                if smaller <= left:
                    image.kept = pixels if smaller == pixels.nbytes else sample.image.copy()
                    left -= smaller
            image.positions.append(position)
            image.boxes.append(self.frame.box(sample.box, sample.image.shape[:2]))
            self._note(position, sample)
        yield image, pixels

    def _note(self, position: int, sample: Sample) -> None:
        height, width = sample.mask.shape
        size = self._eval_size
        mask = sample.mask if isinstance(size, str) else resize_mask(sample.mask, size)
        if not mask.any():
            mask = sample.mask
            self._vanished.add(position)
        rows, columns = mask.shape
        x0, y0, x1, y1 = sample.box
        # the far edges of the last pixels, so that the scaled box covers them whole
        scaled = (x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height)
        left, top, right, bottom = (value * n for value, n in zip(scaled, (columns, rows) * 2, strict=True))
        box, spacing = (left, top, right - 1, bottom - 1), _on_grid(sample.spacing_mm, (height, width), (rows, columns))
        self._places[position] = Place((height, width), (rows, columns), box, spacing)
        self._truths[position] = mask

    def _input(self, image: _Image) -> Tensor:
        if isinstance(image.kept, Tensor):
            return image.kept
        if image.kept is not None:
            return self.frame.image(image.kept)
        sample = self._samples[image.positions[0]]
        if image_hash(sample.image) != image.digest:
            raise replaced(self._samples, sample)
        return self.frame.image(sample.image)


def _on_grid(
    spacing_mm: tuple[float, float] | None, shape: tuple[int, int], grid: tuple[int, int]
) -> tuple[float, float] | None:
    """Bring the spacing of an image's pixels to a grid that covers the image."""
    if spacing_mm is None:
        return None
    rows, columns = (mm * pixels / cells for mm, pixels, cells in zip(spacing_mm, shape, grid, strict=True))
    return rows, columns


@dataclass(eq=False)
class _OnDevice:
    """The first batches of a set, of some size, that stay on a device; while it lives, it is known to all sets."""

    device: torch.device
    batch_size: int
    batches: list[ImageBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        _ALL_ON_DEVICES.add(self)

    def fits(self, device: torch.device, batch_size: int) -> bool:
        return (self.device, self.batch_size) == (device, batch_size)

    @property
    def nbytes(self) -> int:
        return sum(batch.images.nbytes for batch in self.batches)


_ALL_ON_DEVICES: WeakSet[_OnDevice] = WeakSet()


def _room_on(device: torch.device) -> int:
    """Bytes that a CUDA device has for more images of any set: a share of what would be free without those of all."""
    held = sum(each.nbytes for each in _ALL_ON_DEVICES if each.device == device)
    return (free_bytes(device) + held) // _OF_FREE - held


def _batch(found: Sequence[_Image], images: Tensor, pinned: bool) -> ImageBatch:
    boxes = torch.stack([box for image in found for box in image.boxes])
    positions = tuple(position for image in found for position in image.positions)
    owner = tuple(place for place, image in enumerate(found) for _ in image.positions)
    return ImageBatch(positions, images, boxes.pin_memory() if pinned else boxes, owner)
