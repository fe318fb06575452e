"""Exported encoders in int8: ONNX Runtime's dynamic quantisation of the linear layers, judged by the contour.

A linear layer y = x W + b becomes y = s_x s_W[j] (q_x - z_x) q_W + b: weights int8, symmetric, one scale an output
channel j; activations uint8 with the scale and zero point of their own range, taken anew at every run, so that no image
is needed to calibrate. Products of two activations (attention) stay float, and so do convolutions unless asked for.

ONNX Runtime's pre-processing (`quant_pre_process`) runs first, without its symbolic shape inference: with a free batch
that cannot follow the partition into windows ("Incomplete symbolic shape inference"), and nothing here needs it.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..._support.alone import alone
from ..._support.errors import MedcorePruneError, require_known
from ..._support.files import atomic_write
from ...data import phantoms
from ...data.samples import Sample, SampleSet
from ...evaluation.evaluate import evaluate, macro_average
from ...evaluation.intervals import paired_difference
from ...models.calls.call import on_models
from ...models.families import geometry_of
from ...models.protocol import batch_of
from .extra import saying_why, versions
from .facts import read_facts, write_facts
from .model import OnnxModel, open_session

LARGEST_RMS = 0.2
"""Root mean square of the difference to the float file, relative to its output, above which an int8 file is not kept.

Encoders that work lie far below it; a layer that is computed wrongly gives about 1.
"""
METRICS = ("dice", "bf1", "hd95_px")
"""What float and int8 are compared by."""
_LINEAR, _CONVOLUTION = ("MatMul", "Gemm"), ("Conv",)
_OF_GEMM = "_MatMul"  # what ONNX Runtime adds to the name of a Gemm that it turns into a MatMul
_CONVOLUTIONS = ("float", "int8")


class TooFarError(MedcorePruneError):
    """An int8 file gives something else than its float file."""


@dataclass(frozen=True)
class Int8Recipe:
    """How an encoder is quantised; the defaults are what measured best, see docs/laptop.md.

    Attributes:
        convolutions: `"float"` or `"int8"`. ONNX Runtime's integer convolution is slower than its float one, so that
            encoders with many convolutions take longer than in float.
        per_channel: One scale an output channel, or one a layer.
        reduce_range: Weights in 7 of the 8 bits. x86 processors without VNNI add two products of 8 bits in 16 bits,
            which silently saturates (`saturates`); with 7 bits every processor gives the same sums, as quickly, so
            that what was measured on one holds on another. 8 bits are for processors known to add them right, and
            are refused on others.
    """

    convolutions: Literal["float", "int8"] = "float"
    per_channel: bool = True
    reduce_range: bool = True


@dataclass(frozen=True)
class Int8Metric:
    """A metric of the float model and of the int8 file, macro averages over data sets, and their paired difference.

    Attributes:
        float_value, int8_value: The averages.
        difference: int8 minus float; the mean over images, then over data sets.
        low, high: The 95 % interval of the difference, by bootstrap over groups of images.
    """

    float_value: float
    int8_value: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Int8Report:
    """What was quantised, and what it does.

    Attributes:
        recipe: How.
        linears, convolutions: Layers in int8.
        relative_rms: Root mean square of the difference to the float file's embedding, relative to that; the largest
            over the compared images, one at a time.
        compared: Images that it was taken over.
        float_bytes, int8_bytes: Sizes of both files.
        metrics: Name in `METRICS` to what it is on the validation images; empty without any.
        images: Validation images by data set.
        groups: Fewest groups of images of a data set; with fewer than ten the intervals are indicative only.
    """

    recipe: Int8Recipe
    linears: int
    convolutions: int
    relative_rms: float
    compared: int
    float_bytes: int
    int8_bytes: int
    metrics: Mapping[str, Int8Metric]
    images: Mapping[str, int]
    groups: int


@on_models("model")
def quantise_onnx(
    model: nn.Module,
    source: str | Path,
    path: str | Path,
    *,
    recipe: Int8Recipe | None = None,
    samples: Sequence[Sample] | None = None,
    validation: Mapping[str, SampleSet] | None = None,
    progress: bool = True,
) -> Int8Report:
    """Quantise an exported encoder to int8 and hold it against the float model; whole or not at all.

    The file's metadata are those of the float file, and under `int8` the recipe, the versions, what is in the report,
    and whether the processor that it was measured on `saturates`.

    Args:
        model: The PyTorch model that the file was exported from, on the CPU.
        source: The float encoder, as `export_onnx(..., part="encoder")` wrote it.
        path: A name that ends in `.onnx`.
        recipe: None for the measured default.
        samples: Images to compare both files on; None draws phantoms.
        validation: Images by data set on which masks of both are judged; None judges none.
        progress: Show how far the judging is.

    Returns:
        The report.

    Raises:
        MedcorePruneError: The extra is not installed; a source that is no encoder of this model; a recipe that does not
            exist, or whose sums overflow on this processor; a layer that ONNX Runtime left in float; or embeddings that
            differ by more than `LARGEST_RMS`.
        DataError: An empty data set.
    """
    recipe, source, path = recipe or Int8Recipe(), Path(source), Path(path)
    float_model = _float_encoder(model, source, path, recipe)
    images = _compared_on(model, samples)
    with atomic_write(path) as temporary:
        with saying_why(path, "nothing was written; try another version of onnxruntime"):
            linears, convolutions = quantise_layers(source, temporary, recipe)
            _tell(temporary, {**read_facts(source), "int8": asdict(recipe)})
            int8_model = OnnxModel(model, temporary)
            relative_rms = max(_relative_rms(float_model, int8_model, image) for image in images)
        _refuse_far(relative_rms, path)
        report = Int8Report(
            recipe,
            linears,
            convolutions,
            relative_rms,
            len(images),
            source.stat().st_size,
            0,
            *_judged(model, int8_model, validation or {}, progress),
        )
        _describe(temporary, report)
        return replace(report, int8_bytes=temporary.stat().st_size)


def _float_encoder(model: nn.Module, source: Path, path: Path, recipe: Int8Recipe) -> OnnxModel:
    """Check what is asked for, and open the float file, which must be of this model."""
    require_known("convolutions", recipe.convolutions, _CONVOLUTIONS, MedcorePruneError)
    if path.suffix != ".onnx":
        raise MedcorePruneError(f"{path}: expected a name that ends in .onnx")
    float_model = OnnxModel(model, source)
    if "int8" in float_model.facts:
        raise MedcorePruneError(f"{source} is int8 already: give the float file that it was made from")
    if not adds_right(recipe):
        raise MedcorePruneError(
            f"{path}: this processor adds products of 8 bits in too few bits, so that weights of 8 bits give wrong "
            "sums: nothing was written; use reduce_range=True, or a processor with VNNI instructions"
        )
    return float_model


def _compared_on(model: nn.Module, samples: Sequence[Sample] | None) -> list[Tensor]:
    """Images (1, 3, S, S) that both files embed; phantoms where none are given."""
    shown = phantoms.make("phantom_polyp_a", count=3) if samples is None else samples
    frame = geometry_of(model).frame
    images = [batch_of([(sample.image, sample.box)], frame)[0] for sample in shown]
    if not images:
        raise MedcorePruneError("no image to compare both files on: expected at least one")
    return images


def _refuse_far(relative_rms: float, path: Path) -> None:
    # written so that NaN is refused too
    if not relative_rms <= LARGEST_RMS:
        raise TooFarError(
            f"{path}: in int8 the embedding differs by {relative_rms:.2f} of its size, expected at most "
            f"{LARGEST_RMS}: nothing was written; the float file is what to use"
        )


def quantise_layers(source: Path, target: Path, recipe: Int8Recipe) -> tuple[int, int]:
    """Write any ONNX file in int8 and count its layers, linear ones and convolutions.

    A layer that ONNX Runtime passed over is a `MedcorePruneError`, and so is a file without a linear layer.
    """
    tools: Any = import_module("onnxruntime.quantization")
    shape_inference: Any = import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        ready = Path(folder, "ready.onnx")
        shape_inference.quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        linears, convolutions = _layers(ready)
        chosen = linears + (convolutions if recipe.convolutions == "int8" else [])
        kinds = [*_LINEAR, *(_CONVOLUTION if recipe.convolutions == "int8" else ())]
        tools.quantize_dynamic(
            str(ready),
            str(target),
            op_types_to_quantize=kinds,
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            weight_type=tools.QuantType.QInt8,
            nodes_to_quantize=[*chosen, *(name + _OF_GEMM for name in linears)],
        )
    onnx: Any = import_module("onnx")
    done = [node.op_type for node in onnx.load(str(target)).graph.node]
    found = done.count("MatMulInteger"), done.count("ConvInteger")
    expected = len(linears), len(chosen) - len(linears)
    if found != expected or not linears:
        raise MedcorePruneError(
            f"{source}: ONNX Runtime made {found[0]} linear layers and {found[1]} convolutions int8, expected "
            f"{expected[0]} and {expected[1]}: nothing was written; try another version of onnxruntime"
        )
    return found


def _layers(place: Path) -> tuple[list[str], list[str]]:
    """Names of linear layers and of convolutions: what multiplies by a weight matrix, not by another activation."""
    onnx: Any = import_module("onnx")
    graph = onnx.load(str(place)).graph
    sizes = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    linears = [node.name for node in graph.node if node.op_type in _LINEAR and sizes.get(node.input[1]) == 2]
    convolutions = [node.name for node in graph.node if node.op_type in _CONVOLUTION and node.input[1] in sizes]
    return linears, convolutions


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's advice to do what has been done, which goes to the root logger."""
    # what is disabled is so for the whole process: two threads would put back each other's
    with alone(logging.root):
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _relative_rms(first: OnnxModel, second: OnnxModel, image: torch.Tensor) -> float:
    expected, got = (model.embed(image).double() for model in (first, second))
    return float(((got - expected).square().mean() / expected.square().mean().clamp(min=1e-24)).sqrt())


def _judged(
    model: nn.Module, int8_model: OnnxModel, validation: Mapping[str, SampleSet], progress: bool
) -> tuple[dict[str, Int8Metric], dict[str, int], int]:
    """Metrics of both on the same images, how many images each data set has, and the fewest groups of one."""
    if not validation:
        return {}, {}, 0
    # one image at a time, as the int8 file takes them
    given, own = (evaluate(each, validation, batch_size=1, progress=progress) for each in (model, int8_model))
    averages = [macro_average(table, METRICS) for table in (given, own)]
    found, groups = {}, 0
    for name in METRICS:
        difference = paired_difference(own, given, name)
        before, after = (float(average[name]) for average in averages)
        found[name] = Int8Metric(before, after, difference.value, difference.low, difference.high)
        groups = difference.groups
    return found, {name: len(samples) for name, samples in validation.items()}, groups


def _describe(place: Path, report: Int8Report) -> None:
    told = {name: value for name, value in asdict(report).items() if not name.endswith("_bytes")}
    told |= {"saturates_here": saturates(), "versions": versions()}
    _tell(place, {**read_facts(place), "int8": told})


def _tell(place: Path, facts: Mapping[str, Any]) -> None:
    onnx: Any = import_module("onnx")
    content = onnx.load(str(place))
    write_facts(content, facts)
    onnx.checker.check_model(content)
    onnx.save(content, str(place))


def adds_right(recipe: Int8Recipe) -> bool:
    """Whether this processor computes a file of a recipe as it is written, without overflow."""
    return recipe.reduce_range or not saturates()


def saturates() -> bool:
    """Whether this processor adds products of 8 bits in too few bits, so that weights of 8 bits give wrong sums.

    A product of 255s with 127s is computed under ONNX Runtime and compared with what it is.
    """
    onnx: Any = import_module("onnx")
    helper, size = onnx.helper, 64
    kinds = onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["sum"])],
        "probe",
        [helper.make_tensor_value_info("a", kinds.UINT8, [size, size])],
        [helper.make_tensor_value_info("sum", kinds.INT32, [size, size])],
        [helper.make_tensor("b", kinds.INT8, [size, size], np.full(size * size, 127, np.int8).tobytes(), raw=True)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "probe.onnx")
        onnx.save(content, str(place))
        found = open_session(place, 1).run(None, {"a": np.full((size, size), 255, np.uint8)})[0]
    return bool((found != 255 * 127 * size).any())
