"""A model whose encoder is an ONNX file, run by ONNX Runtime, and the rest PyTorch: for `evaluate` and `Predictor`."""

from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..._support.errors import MedcorePruneError
from ...models.calls.call import on_models
from ...models.families import family_of, geometry_of, register_family
from ...models.family import Block, Geometry
from ...models.fingerprint import model_hash
from ...models.protocol import decode_scored
from .extra import saying_why
from .facts import read_facts

_ADVICE = "export it anew with the version of onnxruntime that is installed here"


def open_session(path: str | Path, threads: int | None = None) -> Any:
    """Open a file under ONNX Runtime on the CPU.

    Args:
        path: An ONNX file.
        threads: Threads of an operator; None for one a core.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        MedcorePruneError: ONNX Runtime refuses the file.
    """
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads or 0, 1
    # threads that wait by spinning would take the processor from whatever runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with saying_why(path, _ADVICE):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxModel(nn.Module):
    """A model whose encoder is an ONNX file, to be evaluated as the PyTorch model is.

    Prompt encoder and mask decoder are those of the PyTorch model. Images go through the file one at a time: int8
    files scale an activation by its range over all that is given at once, so that in a batch the mask of an image
    would depend on the others. It can be evaluated and asked for masks; what cuts, trains or calibrates refuses it.

    Args:
        model: The PyTorch model that the file was exported from.
        path: What `export_onnx(..., part="encoder")` or `quantise_onnx` wrote.
        threads: Threads of an operator under ONNX Runtime; None for one a core.

    Raises:
        MedcorePruneError: The extra is not installed, it is no such file, or one of another model.

    Example:
        >>> mp.evaluate(OnnxModel(model, "onnx/encoder_int8.onnx"), data)
    """

    @on_models("model")
    def __init__(self, model: nn.Module, path: str | Path, threads: int | None = None) -> None:
        super().__init__()
        facts = read_facts(path)
        if facts.get("part") != "encoder":
            raise MedcorePruneError(f"{path} holds the part {facts.get('part')!r}, expected encoder: export that one")
        if facts.get("model_hash") != model_hash(model):
            raise MedcorePruneError(f"{path} was exported from another model: export this one, or load that")
        self.model, self.facts = model, facts
        self._session = open_session(path, threads)
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Refuse: a copy is made of what is to be cut or exported."""
        _refuse()

    def embed(self, images: Tensor) -> Tensor:
        """Run the file: (B, 3, S, S) in [0, 1] to (B, C, S / patch, S / patch), on the images' device."""
        rows = images.detach().float().cpu().numpy()
        found = [torch.from_numpy(self._session.run(["embedding"], {"image": row[None]})[0]) for row in rows]
        return torch.cat(found).to(images.device)


@register_family
class OnnxFamily:
    """Embeds by the file, decodes by the model that it was exported from; has no blocks."""

    name = "onnx"

    def matches(self, model: nn.Module) -> bool:
        return isinstance(model, OnnxModel)

    def encoder(self, model: nn.Module) -> nn.Module:
        return _refuse()

    def blocks(self, model: nn.Module) -> list[Block]:
        return _refuse()

    def geometry(self, model: nn.Module) -> Geometry:
        return geometry_of(_inner(model))

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        _refuse()

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        assert isinstance(model, OnnxModel)
        return model.embed(images)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        inner = _inner(model)
        return family_of(inner).decode(inner, embeddings, boxes)

    def score(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return decode_scored(_inner(model), embeddings, boxes)


def _inner(model: nn.Module) -> nn.Module:
    assert isinstance(model, OnnxModel)
    return model.model


def _refuse() -> NoReturn:
    raise MedcorePruneError("the encoder is an ONNX file, which has no blocks: give the PyTorch model that it is of")
