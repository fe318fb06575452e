"""The JSON header of a pruned model's file: what to build before any weight is read, every entry checked.

format      medcore_prune.model/1
kind        a name in `sam_shape.SHAPES`, or custom; for a model of another family its name
shape       what the family builds the whole model from, of a SAM every field of `SamShape`; null where another library
            builds it
plan        a plan in the indices of the whole model, as in a plan file
protocol    how images and boxes become inputs (METHOD section 11)
provenance  what the writer wanted kept: parents' hashes, images' hashes, criterion, level, version
model_hash  SHA-256 over sizes, parameters and buffers, compared with what was built and filled
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from safetensors import SafetensorError

from .._support.errors import BudgetError, CheckpointError
from .._support.files import parse_json
from .._support.records import Record, RecordError, matching
from .._support.tensor_file import TensorFile
from ..models.sam_shape import SHAPES, stored_shape, whole_sizes
from ..pruning.plan import Plan, sizes_before

FORMAT = "medcore_prune.model/1"
KEY, DIGEST_KEY = "medcore_prune.model", "medcore_prune.model.sha256"
MAX_HEADER_BYTES = 1 << 25

PROTOCOL: Mapping[str, Any] = {
    "name": "medsam",
    "resize": "square, bicubic, anti-aliased, no padding",
    "scale": "each image's own range to [0, 1]",
    "prompt": "one box a mask, x0, y0, x1, y1 in input pixels",
    "mask": "first mask token; probabilities resized bilinearly, cut at 0.5",
    "pixel_mean": [0.0, 0.0, 0.0],
    "pixel_std": [255.0, 255.0, 255.0],
}
"""MedSAM's; `pixel_mean` and `pixel_std`, for segment-anything's `SamPredictor`, are each model's own."""

PADDED: Mapping[str, Any] = {
    "name": "lite_medsam",
    "resize": "longest side to the input, bicubic, anti-aliased; zeros below and to the right",
    "mask": "first mask token; probabilities cropped to the image, resized bilinearly, cut at 0.5",
}
"""What LiteMedSAM's protocol has otherwise (METHOD section 13)."""

_LARGEST_PIXEL, _SMALLEST_STD = 65000.0, 1e-4
PIXEL_SCALE: Mapping[str, str] = {
    "pixel_mean": f"numbers of at most {_LARGEST_PIXEL:g}",
    "pixel_std": f"numbers from {_SMALLEST_STD:g} to {_LARGEST_PIXEL:g}",
}


@dataclass(frozen=True)
class _Content(Record, format=FORMAT):
    """What stands in the file."""

    kind: str
    shape: Mapping[str, Any] | None
    plan: Mapping[str, Any]
    protocol: Mapping[str, Any]
    provenance: Mapping[str, Any]
    model_hash: Annotated[str, matching("[0-9a-f]{64}", "SHA-256")]


@dataclass(frozen=True)
class PrunedHeader:
    """What a file says about its model.

    Attributes:
        kind: A name in `sam_shape.SHAPES`, or `custom`; of a model of another family its name.
        shape: What the family builds the whole model from, see `BuildingFamily.settings`; None where another library
            builds it.
        plan: What was cut, in the indices of the whole model.
        provenance: JSON values that the writer wanted kept.
        model_hash: `fingerprint.model_hash` of the model.
        protocol: `pruned.protocol_of` the model, by the version that wrote it; empty where there is no mask decoder.
    """

    kind: str
    shape: Mapping[str, Any] | None
    plan: Plan
    provenance: Mapping[str, Any]
    model_hash: str
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(PROTOCOL))

    def encode(self) -> dict[str, str]:
        """Write the header, with its own SHA-256, as safetensors metadata; provenance that is no JSON is refused."""
        plan = json.loads(self.plan.to_json())
        content = _Content(self.kind, self.shape, plan, self.protocol, self.provenance, self.model_hash).values()
        try:
            text = json.dumps(content, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the provenance cannot be stored ({error}): expected text, numbers, lists and mappings with text keys"
            ) from error
        return {KEY: text, DIGEST_KEY: _digest(text)}

    @classmethod
    def decode(cls, path: str | Path, metadata: Mapping[str, str]) -> "PrunedHeader":
        """Read what `encode` wrote, before any weight is; messages name `path`.

        Refused are another kind of file, a newer format, and entries that were changed or cannot be.
        """
        content = _content(path, metadata)
        try:
            shape = stored_shape(content.shape) if is_sam_kind(content.kind) and content.shape is not None else None
            plan = Plan.from_json(json.dumps(content.plan))
        except BudgetError as error:
            raise CheckpointError(f"{path}: the header names a model that cannot be: {error}") from error
        if shape is not None and sizes_before(plan) != whole_sizes(shape):
            raise CheckpointError(f"{path}: the header's plan is for other sizes than its shape: write the file anew")
        if content.protocol or shape is not None:
            _check_pixel_scale(path, content.protocol)
        return cls(content.kind, content.shape, plan, content.provenance, content.model_hash, content.protocol)


def is_sam_kind(kind: str) -> bool:
    """Whether a header's kind is a SAM, of known sizes or of its own."""
    return kind in (*SHAPES, "custom")


def is_pruned_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save` wrote; False for any other, missing ones included."""
    if not Path(path).is_file():
        return False
    try:
        with TensorFile(path) as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _content(path: str | Path, metadata: Mapping[str, str]) -> _Content:
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: expected a file that medcore_prune.save wrote, got another safetensors file: weights of SAM or "
            "MedSAM are read with load_sam(path)"
        )
    text = metadata[KEY]
    if len(text) > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: a header of {len(text)} bytes, expected at most {MAX_HEADER_BYTES}")
    try:
        values = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: the header is no JSON ({str(error)[:80]}): write the file anew") from error
    _check_format(path, values)
    if metadata.get(DIGEST_KEY) != _digest(text):
        raise CheckpointError(f"{path}: the header was changed after it was written: write the file anew with save")
    try:
        return _Content.of(values, "the header")
    except RecordError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_pixel_scale(path: str | Path, protocol: Mapping[str, Any]) -> None:
    for name in PIXEL_SCALE:
        values = protocol.get(name)
        if not isinstance(values, list) or not is_pixel_scale(name, values):
            raise CheckpointError(
                f"{path}: the header's {name} is {str(values)[:60]}, expected three {PIXEL_SCALE[name]}: write the "
                "file anew with save"
            )


def is_pixel_scale(name: str, values: Sequence[Any]) -> bool:
    """Whether values can be a model's `pixel_mean` or `pixel_std`, by which is divided, also in half precision."""
    lowest = _SMALLEST_STD if name == "pixel_std" else -_LARGEST_PIXEL
    # NaN compares as neither, and a whole number of any length compares without being made a float
    return len(values) == 3 and all(type(v) in (int, float) and lowest <= v <= _LARGEST_PIXEL for v in values)


def _check_format(path: str | Path, content: Any) -> None:
    found = str(content.get("format"))[:60] if isinstance(content, dict) else type(content).__name__
    if found == FORMAT:
        return
    name, _, number = found.partition("/")
    if name == FORMAT.partition("/")[0] and number.isdecimal():
        raise CheckpointError(f"{path}: format {found}, this version reads {FORMAT}: upgrade medcore-prune to read it")
    raise CheckpointError(f"{path}: format {found!r}, expected {FORMAT!r}")
