"""JSON of any content, read with errors of two kinds only."""

import json
import os
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28
"""No file of this package comes near: a split manifest of a million images is half of it."""


def parse_json(text: str) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: It is none, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json_file(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large, no text, no JSON, or nested too deep.
    """
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size >> 20} MiB, expected at most {MOST_BYTES >> 20}")
    return parse_json(Path(path).read_text(encoding="utf-8"))
