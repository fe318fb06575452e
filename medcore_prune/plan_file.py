"""The JSON of a pruning plan: fields to text and back, every entry checked on the way in."""

import json
from collections.abc import Mapping
from typing import Any

from . import index_ranges
from ._support.errors import BudgetError

FORMAT = "medcore_prune.plan/1"
MAX_BLOCKS = 1024
MAX_BYTES = 1 << 26

_REQUIRED = {"format": str, "level": str, "blocks": list}
_OPTIONAL = {"criterion": str, "quotas": str, "protected": list, "only": (list, type(None)), "notes": dict}
_DERIVED = {"effective": dict}  # for the reader of the file; computed from the blocks, never read back
_BLOCK = {"block": int, "heads": int, "neurons": int, "keep_heads": str, "keep_neurons": str}


def encode(fields: Mapping[str, Any]) -> str:
    """Write the fields of a plan, blocks as mappings with tuples of indices, as JSON text.

    A block's heads and its neurons take a line each, so that a diff shows what moved.
    """
    blocks = [encode_block(block) for block in fields["blocks"]]
    return json.dumps({"format": FORMAT, **fields, "blocks": blocks}, indent=1, allow_nan=False) + "\n"


def encode_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the indices of one block into ranges."""
    return {name: index_ranges.to_text(value) if isinstance(value, tuple) else value for name, value in block.items()}


def decode(text: str) -> dict[str, Any]:
    """Read what `encode` wrote, or a careful edit of it.

    Returns:
        The fields, blocks as mappings with tuples of indices.

    Raises:
        BudgetError: No JSON, another format, entries missing, unknown or of the wrong type, or indices that do not
            exist.
    """
    record = _parse(text)
    if isinstance(record, dict) and record.get("format") != FORMAT:
        raise BudgetError(
            f"plan format is {str(record.get('format'))[:40]!r}: this version reads {FORMAT!r}; make the plan again"
        )
    _check_entries(record, _REQUIRED, _OPTIONAL | _DERIVED, "the plan")
    if len(record["blocks"]) > MAX_BLOCKS:
        raise BudgetError(f"the plan lists {len(record['blocks'])} blocks: at most {MAX_BLOCKS} are read")
    fields = {name: value for name, value in record.items() if name != "format" and name not in _DERIVED}
    for name in ("protected", "only"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    return {**fields, "blocks": [_decode_block(entry, place) for place, entry in enumerate(record["blocks"])]}


def _decode_block(entry: Any, place: int) -> dict[str, Any]:
    _check_entries(entry, _BLOCK, {}, f"block {place} of the plan")
    block = dict(entry)
    for family in ("heads", "neurons"):
        what = f"block {place}, {family}"
        index_ranges.check_size(entry[family], what)
        block[f"keep_{family}"] = index_ranges.from_text(entry[f"keep_{family}"], entry[family], what)
    return block


def _parse(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BudgetError(f"not a plan: expected JSON ({str(error)[:80]})") from error


def _check_entries(record: Any, required: Mapping[str, Any], optional: Mapping[str, Any], what: str) -> None:
    if not isinstance(record, dict):
        raise BudgetError(f"{what} is {type(record).__name__}: expected an object with {', '.join(required)}")
    missing = sorted(required.keys() - record.keys())
    unknown = sorted(str(name)[:40] for name in record.keys() - required.keys() - optional.keys())
    if missing or unknown:
        raise BudgetError(f"{what} lacks {missing or 'nothing'} and has unknown entries {unknown[:5] or 'none'}")
    kinds = {**optional, **required}
    for name, value in record.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise BudgetError(f"{what}: {name!r} is {type(value).__name__}, expected {_kind_name(kinds[name])}")


def _kind_name(kind: Any) -> str:
    return " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
