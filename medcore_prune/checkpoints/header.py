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
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from safetensors import SafetensorError, safe_open

from .._support.errors import BudgetError, CheckpointError
from .._support.files import parse_json
from ..models.sam_shape import SHAPES, SamShape, whole_sizes
from ..pruning.plan import Plan

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
"""MedSAM's, the only one; `pixel_mean` and `pixel_std`, for segment-anything's `SamPredictor`, are each model's own."""

PIXEL_SCALE = ("pixel_mean", "pixel_std")

# far above any SAM; a damaged or hostile header must not ask for more
_LIMITS = {
    "image_size": 1 << 14,
    "patch_size": 1 << 10,
    "embed_dim": 1 << 14,
    "depth": 1 << 8,
    "num_heads": 1 << 10,
    "window": 1 << 10,
    "out_channels": 1 << 13,
    "decoder_heads": 1 << 8,
    "decoder_mlp_dim": 1 << 16,
    "iou_hidden_dim": 1 << 14,
}
_ENTRIES: Mapping[str, type | tuple[type, ...]] = {
    "format": str,
    "kind": str,
    "shape": (dict, NoneType),
    "plan": dict,
    "protocol": dict,
    "provenance": dict,
}
_HASH = re.compile(r"[0-9a-f]{64}")


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
        protocol: `PROTOCOL` of the version that wrote it, with the model's own `PIXEL_SCALE`; empty for another model
            than a SAM.
    """

    kind: str
    shape: Mapping[str, Any] | None
    plan: Plan
    provenance: Mapping[str, Any]
    model_hash: str
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(PROTOCOL))

    def encode(self) -> dict[str, str]:
        """Write the header, with its own SHA-256, as safetensors metadata.

        Raises:
            CheckpointError: The provenance is no JSON.
        """
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "shape": None if self.shape is None else dict(self.shape),
            "plan": json.loads(self.plan.to_json()),
            "protocol": dict(self.protocol),
            "provenance": dict(self.provenance),
            "model_hash": self.model_hash,
        }
        try:
            text = json.dumps(content, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"the provenance cannot be stored ({error}): expected text, numbers, lists and mappings with text keys"
            ) from error
        return {KEY: text, DIGEST_KEY: _digest(text)}

    @classmethod
    def decode(cls, path: str | Path, metadata: Mapping[str, str]) -> "PrunedHeader":
        """Read what `encode` wrote, before any weight is.

        Args:
            path: Named in messages.
            metadata: Of the safetensors file.

        Raises:
            CheckpointError: Another kind of file, a newer format, or entries that were changed or cannot be.
        """
        content = _content(path, metadata)
        try:
            shape = _shape(content["shape"]) if is_sam_kind(content["kind"]) and content["shape"] is not None else None
            plan = Plan.from_json(json.dumps(content["plan"]))
        except BudgetError as error:
            raise CheckpointError(f"{path}: the header names a model that cannot be: {error}") from error
        if shape is not None and [(block.heads, block.neurons) for block in plan.blocks] != whole_sizes(shape):
            raise CheckpointError(f"{path}: the header's plan is for other sizes than its shape: write the file anew")
        if shape is not None:
            _check_pixel_scale(path, content["protocol"])
        kept = {name: content[name] for name in ("kind", "shape", "provenance", "protocol", "model_hash")}
        return cls(plan=plan, **kept)


def is_sam_kind(kind: str) -> bool:
    """Whether a header's kind is a SAM, of known sizes or of its own."""
    return kind in (*SHAPES, "custom")


def is_pruned_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save` wrote; False for any other, missing ones included."""
    if not Path(path).is_file():
        return False
    try:
        with safe_open(Path(path), framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _content(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: expected a file that medcore_prune.save wrote, got another safetensors file: weights of SAM or "
            "MedSAM are read with load_sam(path)"
        )
    text = metadata[KEY]
    if len(text) > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: a header of {len(text)} bytes, expected at most {MAX_HEADER_BYTES}")
    try:
        content = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: the header is no JSON ({str(error)[:80]}): write the file anew") from error
    _check_format(path, content)
    if metadata.get(DIGEST_KEY) != _digest(text):
        raise CheckpointError(f"{path}: the header was changed after it was written: write the file anew with save")
    for name, kind in {**_ENTRIES, "model_hash": str}.items():
        if name not in content or not isinstance(content[name], kind):
            expected = getattr(kind, "__name__", "mapping or null")
            raise CheckpointError(f"{path}: the header lacks {name!r}, or it is no {expected}")
    if not _HASH.fullmatch(content["model_hash"]):
        raise CheckpointError(f"{path}: the header's model_hash is no SHA-256")
    return content


def _check_pixel_scale(path: str | Path, protocol: Mapping[str, Any]) -> None:
    for name in PIXEL_SCALE:
        values = protocol.get(name)
        if not isinstance(values, list) or len(values) != 3 or not all(type(value) in (int, float) for value in values):
            raise CheckpointError(f"{path}: the header's {name} is {str(values)[:60]}, expected three numbers")


def _check_format(path: str | Path, content: Any) -> None:
    found = str(content.get("format"))[:60] if isinstance(content, dict) else type(content).__name__
    if found == FORMAT:
        return
    name, _, number = found.partition("/")
    if name == FORMAT.partition("/")[0] and number.isdecimal():
        raise CheckpointError(f"{path}: format {found}, this version reads {FORMAT}: upgrade medcore-prune to read it")
    raise CheckpointError(f"{path}: format {found!r}, expected {FORMAT!r}")


def _shape(fields: Mapping[str, Any]) -> SamShape:
    """Check sizes against what is sane before anything is built from them."""
    if set(fields) != {*_LIMITS, "global_blocks"}:
        raise BudgetError(f"expected the sizes {', '.join((*_LIMITS, 'global_blocks'))}, got {', '.join(fields)[:200]}")
    for name, most in _LIMITS.items():
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise BudgetError(f"{name} is {str(value)[:20]}, expected a whole number from 1 to {most}")
    blocks = fields["global_blocks"]
    if not isinstance(blocks, list) or not all(isinstance(b, int) and 0 <= b < fields["depth"] for b in blocks):
        raise BudgetError(f"global_blocks is {str(blocks)[:60]}, expected numbers of blocks")
    if fields["image_size"] % fields["patch_size"] or fields["embed_dim"] % fields["num_heads"]:
        raise BudgetError("the patch does not divide the image size, or the heads do not divide embed_dim")
    return SamShape(**{**fields, "global_blocks": tuple(blocks)})
