"""One part of the calibration statistics: additive sums over some samples, in memory or in a safetensors file.

A file holds a JSON header (what was summed, over which samples, on which model) and float tensors named
`<sum>/<layer>.weight`, `<sum>/<layer>.bias`, or what else the collector calls them. Files are read
tensor by tensor, and each tensor is checked against its checksum when it is first read.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .._support.errors import StatisticsError
from .._support.files import atomic_write, parse_json, read_json_file, write_json_atomic
from .._support.records import FormatError, Number, Record, Whole
from .._support.tensor_file import TensorFile
from ..models.precision import Precision
from .collector import Need, layout_of

FORMAT = 2
_KEY = "medcore_prune"


@dataclass(frozen=True)
class Header(Record, closed=True):
    """What a part was summed over.

    Attributes:
        kind: Name of the collector (`fisher`, `gradient` and so on), or `weights` for a copy of the prunable weights.
        role: `adapted` or `reference`, the model.
        dataset: Data set; empty for `weights`.
        samples: (name, SHA-256 of image, mask and box) of every sample, in the order of summation.
        losses: Names of the losses whose gradients were summed.
        band_radius_px: Radius of the boundary band in pixels of the grid in `defaults`.
        model_hash: `fingerprint.computation_hash` of the model; empty where unknown.
        precision: In which the network ran, of `PRECISIONS`.
        reference_hash: The same of the reference, where the sums depend on it; else empty.
    """

    kind: str
    role: str
    dataset: str = ""
    samples: tuple[tuple[str, str], ...] = ()
    losses: tuple[str, ...] = ("plain", "band")
    band_radius_px: Number = 3.0
    model_hash: str = ""
    precision: Precision = "fp32"
    reference_hash: str = ""

    @property
    def count(self) -> int:
        """Number of samples summed."""
        return len(self.samples)

    @property
    def data_hash(self) -> str:
        """SHA-256 (hex) of the data set's name and the samples' names and contents, in order."""
        lines = (self.dataset, *(f"{name} {digest}" for name, digest in self.samples))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class _Content(Record, format=FORMAT):
    """What a file says of itself; the count and the hash of the data are for whoever looks into it."""

    header: Header
    count: int
    data_hash: str
    progress: Whole
    checksums: Mapping[str, Whole]


class Part(Protocol):
    """Sums over some samples of one data set, for one model."""

    @property
    def header(self) -> Header: ...

    @property
    def names(self) -> Sequence[str]:
        """Keys of the tensors."""
        ...

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        ...

    def tensor(self, key: str) -> Tensor:
        """One tensor, on the CPU."""
        ...


class MemoryPart:
    """A part whose tensors are in memory."""

    def __init__(self, header: Header, tensors: Mapping[str, Tensor]) -> None:
        self.header, self._tensors = header, dict(tensors)

    @property
    def names(self) -> Sequence[str]:
        return list(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self.tensor(key).shape)

    def tensor(self, key: str) -> Tensor:
        if key not in self._tensors:
            raise StatisticsError(f"the statistics in memory hold no {key}")
        return self._tensors[key]


class FilePart:
    """A part in a file that `write_part` wrote, whose tensors are read when they are asked for.

    `progress` is samples done so far of a part that is not finished, -1 for a finished one; `digest` the SHA-256 (hex)
    of what the file says of itself, the checksums of its tensors included.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise StatisticsError(f"{self.path}: no such statistics file; calibrate first")
        try:
            self._file = TensorFile(self.path)
            self._names = dict.fromkeys(self._file.keys())
            metadata = self._file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise StatisticsError(
                f"{self.path}: damaged or truncated ({_first_line(error)}): remove it and calibrate again"
            ) from error
        content = _content(self.path, metadata)
        self.header, self.progress, self._checksums = content.header, content.progress, content.checksums
        self.digest = hashlib.sha256(metadata[_KEY].encode()).hexdigest()
        self._checked: set[str] = set()

    @property
    def names(self) -> Sequence[str]:
        return list(self._names)

    def shape(self, key: str) -> tuple[int, ...]:
        self._require(key)
        return tuple(self._file.get_slice(key).get_shape())

    def tensor(self, key: str) -> Tensor:
        self._require(key)
        try:
            value = self._file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise StatisticsError(
                f"{self.path}: damaged or truncated ({_first_line(error)}): remove it and calibrate again"
            ) from error
        if key not in self._checked:
            if _checksum(value) != self._checksums.get(key):
                raise StatisticsError(f"{self.path}: {key} is damaged: remove the file and calibrate again")
            self._checked.add(key)
        return value

    def _require(self, key: str) -> None:
        if key not in self._names:
            raise StatisticsError(f"{self.path}: holds no {key}: it belongs to another model, or was collected without")


def write_part(path: str | os.PathLike[str], header: Header, tensors: Mapping[str, Tensor], progress: int = -1) -> None:
    """Write a part of float32 or float64 tensors, whole or not at all; `progress` is samples done, -1 for all."""
    # in one order, wherever they come from
    on_cpu = {key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)}
    checksums = {key: _checksum(value) for key, value in on_cpu.items()}
    content = _Content(header, header.count, header.data_hash, progress, checksums)
    with atomic_write(path) as temporary:
        save_file(on_cpu, temporary, metadata={_KEY: json.dumps(content.values())})


def _checksum(value: Tensor) -> int:
    return zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data)


def _content(path: Path, metadata: Mapping[str, str]) -> _Content:
    if _KEY not in metadata:
        raise StatisticsError(f"{path}: expected calibration statistics, got another safetensors file")
    try:
        return _Content.of(_today(parse_json(metadata[_KEY])), "the header")
    except FormatError as error:
        raise StatisticsError(
            f"{path}: expected format {FORMAT}, got {error.found}: calibrate again with this version"
        ) from error
    except ValueError as error:
        raise StatisticsError(
            f"{path}: the header is not one of this package's ({_first_line(error)}): calibrate again"
        ) from error


def _today(values: Any) -> Any:
    """Values of an earlier version, which said of its precision whether it was mixed, as they are written now."""
    header = values.get("header") if isinstance(values, dict) else None
    if isinstance(header, dict) and isinstance(mixed := header.get("mixed_precision"), bool):
        rest = {name: value for name, value in header.items() if name != "mixed_precision"}
        values = {**values, "header": {**rest, "precision": "bf16" if mixed else "fp32"}}
    return values


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def flat(layers: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Layer name to (weight, bias), as `<layer>.weight` and `<layer>.bias` to one tensor each."""
    return {
        f"{layer_name}.{kind}": value
        for layer_name, pair in layers.items()
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }


def memory_part(need: Need, dataset: str, means: Mapping[str, Tensor], count: int) -> MemoryPart:
    """Make a part whose means, by the collector's names, are given and the same for every lambda_B.

    The samples that they are said to stand for are called `<dataset>/0` and so on.
    """
    copied = not need.summed
    samples = () if copied else tuple((f"{dataset}/{index}", "") for index in range(count))
    layout = layout_of(need.kind)
    assert layout is not None
    scale = 1 if copied else count
    tensors = {
        f"{each}/{name}": torch.zeros_like(value) if power else value.detach() * scale
        for name, value in means.items()
        for each, power in layout.powers.items()
    }
    return MemoryPart(Header(need.kind, need.role, dataset, samples), tensors)


INDEX = "index.json"


@dataclass(frozen=True)
class _Index(Record, format=1):
    """Which files a folder of statistics consists of, each with the `digest` that it had."""

    files: Mapping[str, str]


def save_parts(folder: str | Path, parts: Iterable[Part]) -> None:
    """Write parts into a folder that `load_parts` reads; when it fails, what was written is removed."""
    place = Path(folder)
    if (place / INDEX).exists():
        raise StatisticsError(f"{place} already holds statistics: choose another folder or remove them")
    if there := _files(place):
        raise StatisticsError(
            f"{place} holds {len(there)} .safetensors files and no {INDEX}, as a save that was stopped leaves them: "
            "remove them, or choose another folder"
        )
    written: dict[str, str] = {}
    try:
        for number, part in enumerate(parts):
            header = part.header
            dataset = "".join(c if c.isalnum() or c in "._" else "_" for c in header.dataset)
            words = (f"{number:04d}", header.kind, header.role, dataset)
            path = place / f"{'-'.join(filter(None, words))}.safetensors"
            write_part(path, header, {key: part.tensor(key) for key in part.names})
            written[path.name] = ""
            written[path.name] = FilePart(path).digest
        write_json_atomic(place / INDEX, _Index(written).values())
    except BaseException:
        for name in written:
            (place / name).unlink(missing_ok=True)
        raise


def load_parts(folder: str | Path) -> list[FilePart]:
    """Open the parts of a folder in the order in which they were saved, without reading the tensors."""
    place = Path(folder)
    there = _files(place)
    if not (place / INDEX).is_file():
        if not there:
            raise StatisticsError(f"{folder}: no statistics here; expected a folder from Statistics.save")
        raise StatisticsError(
            f"{folder}: there is no {INDEX}, so that this is no folder from Statistics.save, or not the whole of one: "
            "save or copy it again; what lies in a cache is opened by calibrate"
        )
    saved = _index(place / INDEX)
    if missing := sorted(saved.keys() - there):
        raise StatisticsError(f"{folder}: {_named(missing)} missing: copy the whole folder again, or save anew")
    if foreign := sorted(there - saved.keys()):
        raise StatisticsError(f"{folder}: {_named(foreign)} not of these statistics: move the others elsewhere")
    parts = [FilePart(place / name) for name in sorted(saved)]
    if other := [part.path for part in parts if part.digest != saved[part.path.name]]:
        raise StatisticsError(f"{other[0]}: another file than the one that was saved: copy the folder again")
    return parts


def _files(place: Path) -> set[str]:
    """Names of the files with tensors; hidden ones are what a killed writer leaves."""
    return {path.name for path in place.glob("*.safetensors") if not path.name.startswith(".")}


def _index(path: Path) -> Mapping[str, str]:
    try:
        return _Index.of(read_json_file(path)).files
    except (OSError, ValueError) as error:
        raise StatisticsError(
            f"{path}: no index of statistics ({_first_line(error)}): copy the folder again, or save anew"
        ) from error


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return f"{names[0]}{more}"
