"""Models as ONNX files, proved against PyTorch under ONNX Runtime before they are kept.

The input side is fixed, the batch axis is free. Needs the extra `onnx`: `pip install "medcore-prune[onnx]"`.

What a file is stands in its metadata, as JSON under `medcore_prune` (`read_facts`):

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

import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._support.alone import alone
from .._support.errors import MedcorePruneError, require_known
from .._support.files import atomic_write
from ..data import phantoms
from ..data.frame import Frame
from ..data.samples import Sample
from ..models.calls.call import on_models
from ..models.families import encoder_of, family_of, geometry_of
from ..models.fingerprint import model_hash
from ..models.protocol import batch_of, decode, embed, low_res_logits
from ..models.switches import set_attention
from ..pruning.surgery import lineage_of
from .header import PROTOCOL
from .onnx_shapes import fix_sizes
from .pruned import protocol_of

LARGEST_DIFFERENCE = 1e-3
"""Difference to PyTorch, relative to the largest output, above which a file is not kept; 1e-6 to 1e-5 is usual."""
_OPSET = 17
_MOST_BYTES = 2_000_000_000  # a protobuf file ends at 2 GiB
_EXTRA = ("onnx", "onnxscript", "onnxruntime")
_CHECKERS = ("onnx", "onnxruntime")
_FACTS = "medcore_prune"
_NOT_KEPT = "nothing was written; try the other exporter, or another version of onnxruntime"
_PACKAGES = ("medcore-prune", "torch", "onnx", "onnxruntime")


class _Encoder(nn.Module):
    """image (B, 3, S, S) in [0, 1] -> embedding (B, C, S / patch, S / patch)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder_of(model)

    def forward(self, image: Tensor) -> Tensor:
        return embed(self.encoder, image)


class _Whole(nn.Module):
    """image (B, 3, S, S), box (B, 4) in input pixels -> logits and probabilities (B, 1, 4 S / patch, 4 S / patch)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        logits = low_res_logits(self.model, image, box)
        return logits, logits.sigmoid()


class _Decoder(nn.Module):
    """embedding (B, C, S / patch, S / patch), box (B, 4) in input pixels -> as `_Whole`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        logits = decode(self.model, embedding, box)
        return logits, logits.sigmoid()


@dataclass(frozen=True)
class _Part:
    make: Callable[[nn.Module], nn.Module]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def arguments(self, model: nn.Module, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """Inputs of the part, made from those of the whole."""
        with torch.no_grad():
            return tuple(_GIVEN[name](model, image, box) for name in self.inputs)


_GIVEN: Mapping[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "image": lambda model, image, box: image,
    "box": lambda model, image, box: box,
    "embedding": lambda model, image, box: embed(model, image),
}
PARTS: dict[str, _Part] = {
    "encoder": _Part(_Encoder, ("image",), ("embedding",)),
    "decoder": _Part(_Decoder, ("embedding", "box"), ("logits", "probabilities")),
    "whole": _Part(_Whole, ("image", "box"), ("logits", "probabilities")),
}
"""What can be exported, with the names of its inputs and outputs."""


@dataclass(frozen=True)
class OnnxReport:
    """How an exported file compares with PyTorch.

    Attributes:
        part: A name in `PARTS`.
        exporter: A name in `EXPORTERS`.
        image_size: Side of the input in pixels.
        differences: Output to the largest absolute difference over all compared images, relative to the largest
            absolute value.
        images: Images compared on, at batches of one and of all of them.
        file_bytes: Size of the file.
        seconds: Of the export, without the comparison.
    """

    part: str
    exporter: str
    image_size: int
    differences: dict[str, float]
    images: int
    file_bytes: int
    seconds: float


def _export(module: nn.Module, arguments: tuple[Tensor, ...], part: _Part, place: Path, **how: Any) -> None:
    inputs, outputs = list(part.inputs), list(part.outputs)
    torch.onnx.export(module, arguments, str(place), input_names=inputs, output_names=outputs, **how)


def _torchscript(module: nn.Module, arguments: tuple[Tensor, ...], part: _Part, place: Path) -> None:
    axes = {name: {0: "batch"} for name in (*part.inputs, *part.outputs)}
    _export(module, arguments, part, place, dynamic_axes=axes, opset_version=_OPSET, dynamo=False)


def _dynamo(module: nn.Module, arguments: tuple[Tensor, ...], part: _Part, place: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in arguments)
    _export(module, arguments, part, place, dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False)


EXPORTERS: dict[str, Callable[[nn.Module, tuple[Tensor, ...], _Part, Path], None]] = {
    "torchscript": _torchscript,
    "dynamo": _dynamo,
}
"""torch's two exporters. Both give the same numbers here; the tracing one takes seconds, the other minutes."""


@on_models("model")
def export_onnx(
    model: nn.Module,
    path: str | Path,
    part: str = "whole",
    *,
    samples: Sequence[Sample] | None = None,
    exporter: str = "torchscript",
) -> OnnxReport:
    """Write a model as ONNX and compare it with PyTorch on images; whole or not at all.

    Inputs are those of the model's protocol: `protocol.batch_of` makes them from an image and a box. The file's
    metadata say what goes in and comes out, the protocol, the input side, the model's hash and the level: `read_facts`.
    Sizes are constants but for the batch, so that ONNX Runtime's `quant_pre_process` takes the file.

    Args:
        model: A `Sam` in float32 and evaluation mode, pruned or not.
        path: A name that ends in `.onnx`.
        part: `encoder` for image to embedding, `decoder` for embedding and box to logits and probabilities, or `whole`
            for image and box to those.
        samples: Images with boxes to compare on, two at least; None draws phantoms.
        exporter: A name in `EXPORTERS`.

    Returns:
        The comparison.

    Raises:
        MedcorePruneError: The extra is not installed; an unknown part or exporter; a model that is not float32 or too
            large for one file; too few samples; a file that ONNX or ONNX Runtime refuses; or outputs that differ from
            PyTorch's.
    """
    require_onnx()
    _check(model, Path(path), part, exporter)
    frame, device = geometry_of(model).frame, next(model.parameters()).device
    shown = list(samples) if samples is not None else list(phantoms.make("phantom_polyp_a", count=3))
    if len(shown) < 2:
        raise MedcorePruneError(f"comparing takes at least two images, to try the batch axis: got {len(shown)}")
    both = batch_of([(sample.image, sample.box) for sample in shown], frame, device)
    chosen = PARTS[part]
    arguments = chosen.arguments(model, *both)
    module = chosen.make(_traceable(model)).eval()
    with atomic_write(path) as temporary:
        start = time.perf_counter()
        # torch's exporters, and the filters of warnings, are one for the whole process
        with alone(torch.onnx), torch.no_grad(), warnings.catch_warnings():
            # both exporters warn of shapes that become constants, which is what a fixed input side means
            warnings.simplefilter("ignore")
            EXPORTERS[exporter](module, tuple(value[:2] for value in arguments), chosen, temporary)
        seconds = time.perf_counter() - start
        with saying_why(path):
            _finish(temporary, model, part, arguments)
            differences = compare(module, temporary, chosen, arguments)
        _refuse_different(differences, path)
        size_bytes = temporary.stat().st_size
    return OnnxReport(part, exporter, frame.size, differences, len(shown), size_bytes, seconds)


def _traceable(model: nn.Module) -> nn.Module:
    """A copy with attention as segment-anything has it: the fused one takes parts whose number the batch decides."""
    copied = copy.deepcopy(model)
    kinds = getattr(family_of(copied), "attentions", {})
    return set_attention(copied, "segment-anything") if kinds else copied


def require_onnx() -> None:
    """Refuse where the extra is not installed, in one line that says how to install it."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise MedcorePruneError(f'ONNX needs {", ".join(missing)}: pip install "medcore-prune[onnx]"')


def _check(model: nn.Module, path: Path, part: str, exporter: str) -> None:
    require_known("part", part, PARTS, MedcorePruneError)
    require_known("exporter", exporter, EXPORTERS, MedcorePruneError)
    if path.suffix != ".onnx":
        raise MedcorePruneError(f"{path}: expected a name that ends in .onnx")
    if other := {str(p.dtype) for p in model.parameters()} - {"torch.float32"}:
        raise MedcorePruneError(f"the model has weights of {', '.join(sorted(other))}: call .float() on it first")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if weights > _MOST_BYTES:
        raise MedcorePruneError(
            f"the weights are {weights / 1e9:.1f} GB, one ONNX file holds {_MOST_BYTES / 1e9:.0f}: prune it first"
        )


def versions() -> dict[str, str]:
    """Versions of the packages that files and their numbers come from."""
    return {name: version(name) for name in _PACKAGES}


def _finish(place: Path, model: nn.Module, part: str, arguments: Sequence[Tensor]) -> None:
    """Make sizes constants and write the metadata, in place of what the exporter wrote."""
    onnx: Any = import_module("onnx")
    plan = lineage_of(model).plan
    content = onnx.load(str(place))
    named = dict(zip(PARTS[part].inputs, arguments, strict=True))
    fix_sizes(content, [{name: value[:count].cpu().numpy() for name, value in named.items()} for count in (1, 2)])
    facts = {
        "part": part,
        **_told(content.graph, geometry_of(model).frame),
        "level": plan.level if plan else "",
        "model_hash": model_hash(model),
        "protocol": protocol_of(model) or dict(PROTOCOL),
        "versions": versions(),
    }
    write_facts(content, facts)
    onnx.checker.check_model(content)
    onnx.save(content, str(place))


def _told(graph: Any, frame: Frame) -> dict[str, Any]:
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
    told = {
        kind: {each.name: f"({', '.join(_sizes(each))}) float32, {words[each.name]}" for each in values}
        for kind, values in (("inputs", graph.input), ("outputs", graph.output))
    }
    return {**told, "image_size": frame.size, "padded": frame.padded}


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


@torch.no_grad()
def compare(module: nn.Module, place: Path, part: _Part, arguments: Sequence[Tensor]) -> dict[str, float]:
    """Run a file under ONNX Runtime beside the module it was exported from, at batches of one and of all images.

    `arguments` are inputs, the batch first. Gives each output the largest absolute difference, relative to the largest
    absolute value.
    """
    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(part.outputs, 0.0)
    for count in (1, arguments[0].shape[0]):
        inputs = [value[:count] for value in arguments]
        outputs = module(*inputs)
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        got = session.run(None, {name: v.cpu().numpy() for name, v in zip(part.inputs, inputs, strict=True)})
        for name, ours, theirs in zip(part.outputs, expected, got, strict=True):
            scale = float(ours.abs().max().clamp(min=1e-12))
            worst[name] = max(worst[name], float((ours.cpu() - torch.from_numpy(theirs)).abs().max()) / scale)
    return worst


@contextmanager
def saying_why(path: str | Path, advice: str = _NOT_KEPT) -> Iterator[None]:
    """Turn what ONNX and ONNX Runtime raise, which have no error in common, into one that names the file."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CHECKERS:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise MedcorePruneError(
            f"{path}: the exported file does not run under ONNX Runtime ({reason}): {advice}"
        ) from error


def _refuse_different(differences: dict[str, float], path: str | Path) -> None:
    # written so that NaN is refused too
    wrong = [f"{name} by {value:.1e}" for name, value in differences.items() if not value <= LARGEST_DIFFERENCE]
    if wrong:
        raise MedcorePruneError(
            f"{path}: under ONNX Runtime {', '.join(wrong)} of the largest output differ from PyTorch's, expected at "
            f"most {LARGEST_DIFFERENCE:.0e}: nothing was written; try the other exporter"
        )
