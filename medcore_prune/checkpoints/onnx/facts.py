"""What an exported file is, in its metadata, as JSON under `medcore_prune`.

part        a name in `PARTS`
inputs      name to shape, type, range and meaning; the batch is free
outputs     the same of what comes out
image_size  side of the input in pixels
padded      whether an image keeps its aspect and is filled up below and to the right, rather than stretched
protocol    how images and boxes become inputs (METHOD section 11), with the model's own `pixel_mean` and `pixel_std`
level       what was pruned, empty where nothing was
model_hash  of the PyTorch model
versions    of what wrote it
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..._support.errors import MedcorePruneError
from ...data.frame import Frame
from .extra import require_onnx

_FACTS = "medcore_prune"


def told(graph: Any, frame: Frame) -> dict[str, Any]:
    """What goes in and comes out, and the side of the input, as a file says it."""
    divided = "the longest side" if frame.padded else "width and height"
    words = {
        "image": "RGB, the image's own range brought to [0, 1]",
        "embedding": "the encoder's, for the decoder",
        "box": "x0, y0, x1, y1: first and last column and row of the object in pixels of the input, which are those of "
        f"the image times {frame.size} / {divided}",
        "logits": "over the whole input; above 0 is object",
        "probabilities": "over the whole input, in [0, 1]",
    }
    said = {
        kind: {each.name: f"({', '.join(_sizes(each))}) float32, {words[each.name]}" for each in values}
        for kind, values in (("inputs", graph.input), ("outputs", graph.output))
    }
    return {**said, "image_size": frame.size, "padded": frame.padded}


def _sizes(value: Any) -> list[str]:
    return [size.dim_param or str(size.dim_value) for size in value.type.tensor_type.shape.dim]


def write_facts(content: Any, facts: Mapping[str, Any]) -> None:
    """Put what a file is into the metadata of an ONNX model in memory, in place of what is there."""
    onnx: Any = import_module("onnx")
    onnx.helper.set_model_props(content, {_FACTS: json.dumps(facts, sort_keys=True, allow_nan=False)})


def read_facts(path: str | Path) -> dict[str, Any]:
    """Read what an exported file is, as `export_onnx` and `quantise_onnx` wrote it.

    Args:
        path: An ONNX file.

    Returns:
        What the module's docstring lists; of an int8 file also `int8`, its recipe and what it was measured to do.

    Raises:
        MedcorePruneError: The extra is not installed, or it is no file that this package wrote.
    """
    require_onnx()
    onnx: Any = import_module("onnx")
    try:
        content = onnx.load(str(path), load_external_data=False)
        facts = json.loads({each.key: each.value for each in content.metadata_props}[_FACTS])
    except Exception as error:
        # protobuf, the file system, a key that is not there, JSON: they have nothing in common
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise MedcorePruneError(
            f"{path}: no ONNX file of this package ({reason}): write it with export_onnx"
        ) from error
    if not isinstance(facts, dict):
        raise MedcorePruneError(f"{path}: no ONNX file of this package: write it with export_onnx")
    return facts
