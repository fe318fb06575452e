"""Sizes as constants in an exported ONNX file: what a tracing exporter computes from shapes at every run.

The input side is fixed, so that no size but the batch can change. A file that computes them all the same runs, but
tools that ask for every shape beforehand, as ONNX Runtime's `quant_pre_process` does, give up at the first reshape.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def fix_sizes(content: Any, feeds: Sequence[Mapping[str, Array]]) -> None:
    """Replace what follows from the input's shape, other than the batch, by its value; in place.

    Whole numbers that are computed from shapes alone depend on the batch and on nothing else. Those that are the same
    at two batch sizes become constants; the shape given to a `Reshape` that differs in one entry gets -1 there. Outputs
    say their sizes.

    Args:
        content: An `onnx.ModelProto`.
        feeds: Inputs by name, at two batch sizes.
    """
    onnx: Any = import_module("onnx")
    graph = content.graph
    names = [name for name in _from_shapes(graph) if name not in {each.name for each in graph.output}]
    outputs = [each.name for each in graph.output]
    first, second = (_run(onnx, content, [*outputs, *names], feed) for feed in feeds)
    reshapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    values = {}
    for name in names:
        if (value := _constant(first[name], second[name], name in reshapes)) is not None:
            values[name] = value
    _put(onnx, graph, values)
    for output in graph.output:
        for index, sizes in enumerate(zip(first[output.name].shape, second[output.name].shape, strict=True)):
            size = output.type.tensor_type.shape.dim[index]
            if sizes[0] == sizes[1]:
                size.dim_value = sizes[0]
            else:
                size.dim_param = "batch"


def _from_shapes(graph: Any) -> list[str]:
    """Names of what nodes compute from shapes and constants alone."""
    known = {each.name for each in graph.initializer}
    found = []
    for node in graph.node:
        # a node with a graph inside may read more than its inputs
        if any(attribute.HasField("g") for attribute in node.attribute):
            continue
        if node.op_type == "Shape" or all(name in known for name in node.input if name):
            known.update(node.output)
            found += [name for name in node.output if name]
    return found


def _run(onnx: Any, content: Any, names: Sequence[str], feed: Mapping[str, Array]) -> dict[str, Array]:
    """What each name holds at one run."""
    onnxruntime: Any = import_module("onnxruntime")
    shown = onnx.ModelProto()
    shown.CopyFrom(content)
    there = {each.name for each in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), dict(feed)), strict=True))


def _constant(first: Array, second: Array, is_shape: bool) -> Array | None:
    """The value at every batch size, None where there is none."""
    if not isinstance(first, np.ndarray) or first.dtype != np.int64 or first.shape != second.shape:
        return None
    differs = first != second
    if not differs.any():
        return first
    # 0 and -1 mean something else to a reshape
    if is_shape and differs.sum() == 1 and bool((first > 0).all()):
        return np.where(differs, np.int64(-1), first)
    return None


def _put(onnx: Any, graph: Any, values: Mapping[str, Array]) -> None:
    """Make values constants, and drop the nodes that nothing reads any more."""
    wanted = {each.name for each in graph.output}
    kept = []
    for node in reversed(graph.node):
        if all(name in values or name not in wanted for name in node.output):
            continue
        kept.append(node)
        wanted.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                wanted.update(name for inner in attribute.g.node for name in inner.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    used = [onnx.numpy_helper.from_array(value, name) for name, value in values.items() if name in wanted]
    graph.initializer.extend(used)
    # what exporters said of sizes in between holds no more than their guesses
    del graph.value_info[:]
