"""Models as ONNX files, proved against PyTorch under ONNX Runtime before they are kept.

The input side is fixed, the batch axis is free. Needs the extra `onnx`: `pip install "medcore-prune[onnx]"`. What a
file is stands in its metadata, see `facts`.
"""

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._support.alone import alone
from ..._support.errors import MedcorePruneError, require_known
from ..._support.files import atomic_write
from ...data import phantoms
from ...data.samples import Sample
from ...models.calls.call import on_models
from ...models.families import family_of, geometry_of
from ...models.fingerprint import model_hash
from ...models.protocol import batch_of
from ...models.switches import set_attention
from ...pruning.surgery import lineage_of
from ..header import PROTOCOL
from ..pruned import protocol_of
from .extra import require_onnx, saying_why, versions
from .facts import told, write_facts
from .parts import EXPORTERS, PARTS, Part
from .shapes import fix_sizes

LARGEST_DIFFERENCE = 1e-3
"""Difference to PyTorch, relative to the largest output, above which a file is not kept; 1e-6 to 1e-5 is usual."""
_MOST_BYTES = 2_000_000_000  # a protobuf file ends at 2 GiB


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


def _finish(place: Path, model: nn.Module, part: str, arguments: Sequence[Tensor]) -> None:
    """Make sizes constants and write the metadata, in place of what the exporter wrote."""
    onnx: Any = import_module("onnx")
    plan = lineage_of(model).plan
    content = onnx.load(str(place))
    named = dict(zip(PARTS[part].inputs, arguments, strict=True))
    fix_sizes(content, [{name: value[:count].cpu().numpy() for name, value in named.items()} for count in (1, 2)])
    facts = {
        "part": part,
        **told(content.graph, geometry_of(model).frame),
        "level": plan.level if plan else "",
        "model_hash": model_hash(model),
        "protocol": protocol_of(model) or dict(PROTOCOL),
        "versions": versions(),
    }
    write_facts(content, facts)
    onnx.checker.check_model(content)
    onnx.save(content, str(place))


@torch.no_grad()
def compare(module: nn.Module, place: Path, part: Part, arguments: Sequence[Tensor]) -> dict[str, float]:
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


def _refuse_different(differences: dict[str, float], path: str | Path) -> None:
    # written so that NaN is refused too
    wrong = [f"{name} by {value:.1e}" for name, value in differences.items() if not value <= LARGEST_DIFFERENCE]
    if wrong:
        raise MedcorePruneError(
            f"{path}: under ONNX Runtime {', '.join(wrong)} of the largest output differ from PyTorch's, expected at "
            f"most {LARGEST_DIFFERENCE:.0e}: nothing was written; try the other exporter"
        )
