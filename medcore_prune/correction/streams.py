"""The residual stream of an encoder, block by block: what a layer reads, what it adds, and what the stream was before.

A block adds to the stream twice: `x + proj(...)`, then `+ lin2(...)`; a convolution may lie between both, and another
on the way to the next block, whose tokens may be fewer and wider. Windowed blocks pad the image to whole windows;
tokens of the padding are left out here, for nothing reads what a layer gives for them.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._support.devices import precision_of
from .._support.errors import SurgeryError
from ..evaluation.estimates import available_bytes
from ..models.families import blocks_of, encoder_of
from ..models.family import Block
from ..models.tiny_vit.stems import stem_tokens

ADDING_LAYERS = ("proj", "lin2")
"""The layers of a block that add to the residual stream, in order."""
_CLOSE = 1e-3
"""Largest difference of a stream from what its parts add up to, relative to its largest value."""


Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Name to the shape and dtype of a tensor."""


class _Enough(Exception):  # noqa: N818  # no error: nothing went wrong
    """Stops a forward pass: the rest is not needed."""


@dataclass(frozen=True)
class Added:
    """What one layer adds to the residual stream on a batch, and the stream behind it: (B, h, w, D), no padding."""

    output: Tensor
    after: Tensor


@dataclass(frozen=True)
class Observed:
    """One layer on a batch, without the tokens of padding: inputs (B, h, w, in), output (B, h, w, D).

    `before`, (B, h, w, D), is the residual stream that the output is added to.
    """

    inputs: Tensor
    before: Tensor
    output: Tensor

    @property
    def added(self) -> Added:
        """What is left of it without the inputs."""
        return Added(self.output, self.before + self.output)


def fold_windows(tokens: Tensor, batch: int, side: int, window: int) -> Tensor:
    """Put tokens of windows back into images, (B, side, side, C), and drop what is padding.

    They come as (B * n * n, window, window, C) with the windows of each image row by row, or in any shape of as many
    elements in that order; `window` 0 stands for none.
    """
    channels = tokens.shape[-1]
    if not window:
        return tokens.reshape(batch, side, side, channels)
    n = -(-side // window)
    grid = tokens.reshape(batch, n, n, window, window, channels).transpose(2, 3)
    return grid.reshape(batch, n * window, n * window, channels)[:, :side, :side]


@contextmanager
def _until_enough(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    """Run until a hook has seen enough, and take the hooks away."""
    try:
        with suppress(_Enough):
            yield
    finally:
        for handle in handles:
            handle.remove()


def stopping_at(layer: nn.Module, run: nn.Module, inputs: Tensor) -> Tensor:
    """Run a module until a layer inside it, and return what enters that layer."""
    caught: list[Tensor] = []

    def catch(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught.append(args[0])
        raise _Enough

    with _until_enough(layer.register_forward_pre_hook(catch)):
        run(inputs)
    return caught[0]


def first_tokens(model: nn.Module, images: Tensor) -> Tensor:
    """Return what enters the first block: (B, 3, S, S) to (B, h, w, D), in the model's precision."""
    images = images.to(precision_of(model))
    if (tokens := stem_tokens(model, images)) is not None:
        return tokens
    first = model.get_submodule(blocks_of(model)[0].name)
    return stopping_at(first, encoder_of(model), images)


def observe(model: nn.Module, block: Block, tokens: Tensor, role: str) -> Observed:
    """Run one block on tokens (B, h, w, D) as far as `role`, `"proj"` or `"lin2"`, which adds to the stream."""
    return observe_both(model, block, tokens, role)[role]


def observe_both(model: nn.Module, block: Block, tokens: Tensor, last: str = ADDING_LAYERS[-1]) -> dict[str, Observed]:
    """Run one block on tokens (B, h, w, D) once, and return its layers that add to the stream, as far as `last`."""
    caught: dict[str, tuple[Tensor, Tensor]] = {}

    def catch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            caught[name] = (args[0], output)
            if name == last:
                raise _Enough

        return hook

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught["entry"] = (args[0], args[0])

    handles = [block.layers[name].register_forward_hook(catch(name)) for name in ADDING_LAYERS]
    if block.mlp_entry is not None:
        handles.append(block.mlp_entry.register_forward_pre_hook(enter))
    with _until_enough(*handles):
        model.get_submodule(block.name)(tokens)
    if unseen := [role for role in ("proj", last) if role not in caught]:
        raise SurgeryError(
            f"{block.layer_names[unseen[0]]} did not run: {block.name} computes without calling that layer; leave out "
            "the correction"
        )
    batch, side = tokens.shape[:2]
    attended = [fold_windows(value, batch, side, block.window) for value in caught["proj"]]
    found = {"proj": Observed(attended[0], tokens, attended[1])}
    if last != "proj":
        # an MLP may see the image row by row
        hidden, output = (fold_windows(value, batch, side, 0) for value in caught["lin2"])
        before = tokens + attended[1] if block.mlp_entry is None else fold_windows(caught["entry"][0], batch, side, 0)
        found["lin2"] = Observed(hidden, before, output)
    return found


def passed(block: Block, tokens: Tensor) -> Tensor:
    """What the next block reads of what a block gives."""
    return tokens if block.then is None else block.then(tokens)


def check_streams(model: nn.Module, image: Tensor) -> None:
    """Refuse a model whose blocks do more between their layers than they say, by running one image (1, 3, S, S)."""
    blocks, read, given = blocks_of(model), list[Tensor](), list[Tensor]()

    def catch(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        read.append(args[0])
        given.append(output)

    handles = [model.get_submodule(block.name).register_forward_hook(catch) for block in blocks]
    try:
        encoder_of(model)(image.to(precision_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    for block, tokens, output, wanted in zip(blocks, read, given, [*read[1:], None], strict=True):
        after = observe(model, block, tokens, "lin2").added.after
        if not _same(after, output):
            raise SurgeryError(
                f"what {block.name} gives is not what its layers add up to: something lies between attention and MLP "
                "that the family does not name (Block.mlp_entry); leave out the correction"
            )
        if wanted is not None and not _same(passed(block, output), wanted):
            raise SurgeryError(
                f"what {block.name} gives is not what the next block reads: something lies between both that the "
                "family does not name (Block.then); leave out the correction"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    # NaN is no difference here: the fit names the layer that it comes from
    return one.shape == other.shape and not float((one - other).abs().max()) > _CLOSE * float(other.abs().max())


class Stream:
    """The residual stream of one network on all images, kept in `room`, (images, most numbers an image).

    An image's tokens lie in a row of it, wherever in the encoder they are. Reading takes them to where the model is, in
    its number type: no step where `room` lies there too.
    """

    def __init__(self, room: Tensor, model: nn.Module) -> None:
        self._room, self._like = room, next(model.parameters())

    def read(self, block: Block, rows: slice | Sequence[int]) -> Tensor:
        """Return some images' tokens before or behind a block, (B, h, w, D)."""
        tokens = self._room[rows, : block.tokens_side**2 * block.width]
        return tokens.to(self._like).reshape(-1, block.tokens_side, block.tokens_side, block.width)

    def write(self, rows: slice, tokens: Tensor) -> None:
        """Put tokens (B, h, w, D) in the place of those before."""
        flat = tokens.flatten(1)
        self._room[rows, : flat.shape[1]].copy_(flat)


DEVICE_SHARE = 0.5
"""Of the memory that is free on a GPU, what large tensors may take there; the rest is for the work on a batch."""


def room_on(device: torch.device) -> float:
    """Bytes that large tensors may take on the device of a model, 0 on the CPU, where a limit is given."""
    return 0.0 if device.type == "cpu" else DEVICE_SHARE * (available_bytes(device) or 0)


@contextmanager
def room_for(shapes: Shapes, limit_bytes: float, device: torch.device | None = None) -> Iterator[dict[str, Tensor]]:
    """Make room for large tensors of arbitrary values, of no use when the block ends.

    They lie on a model's `device` as long as all of them together fit into its `room_on`, else on the CPU up to
    `limit_bytes`, else in temporary files that are memory-mapped.
    """
    size, cpu = bytes_of(shapes), torch.device("cpu")
    place = cpu if device is None or size > room_on(device) else device
    if place != cpu or size <= limit_bytes:
        yield {name: torch.empty(shape, dtype=dtype, device=place) for name, (shape, dtype) in shapes.items()}
        return
    with tempfile.TemporaryDirectory(prefix="medcore_prune-") as folder:
        yield {name: _mapped(Path(folder) / name, *shape) for name, shape in shapes.items()}


def bytes_of(shapes: Shapes) -> int:
    """Size of what `room_for` makes room for."""
    return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in shapes.values())


def _mapped(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size: Any = torch.Size(shape).numel()
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).reshape(shape)
