"""The correction restated: whole networks, image by image, padding dropped by position, one `lstsq` a layer in float64.

No normal equations, no carried streams, no windows folded: the corrected layer's tokens are read where the images'
positions say that they are, and ridge and token weights become rows of one tall least-squares problem.
"""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune.correction.token_weights import WEIGHTINGS, adding_layers
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.protocol import batch_of
from medcore_prune.pruning.planning import make_plan

SIDE = TINY.image_size // TINY.patch_size


def by_brightness(teacher: nn.Module, images: Tensor, _boxes: Tensor, _owner: object = None) -> dict[str, Tensor]:
    """A weighting that differs from token to token and from layer to layer."""
    bright = F.avg_pool2d(images.mean(1, keepdim=True), TINY.patch_size)[:, 0]
    return {name: bright ** (1 + index) for index, name in enumerate(adding_layers(teacher))}


def in_windows(block: int) -> bool:
    return block not in TINY.global_blocks


def place_of(row: int, column: int) -> tuple[int, int, int]:
    """Window, row and column within it of a token of a windowed block."""
    across = -(-SIDE // TINY.window)
    window = (row // TINY.window) * across + column // TINY.window
    return window, row % TINY.window, column % TINY.window


def by_position(tokens: Tensor, windowed: bool) -> Tensor:
    """(windows, w, w, C) or (1, side, side, C) of one image to (side * side, C)."""
    places = [(r, c) for r in range(SIDE) for c in range(SIDE)]
    return torch.stack([tokens[place_of(r, c)] if windowed else tokens[0, r, c] for r, c in places])


def run(model: nn.Module, image: Tensor, block: int, role: str) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and output of a layer, and the stream before it, for one image through the whole encoder."""
    part: Any = encoder_of(model).blocks[block]
    seen: dict[str, Tensor] = {}
    layer = part.attn.proj if role == "proj" else part.mlp.lin2

    def keep_layer(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen["inputs"], seen["output"] = args[0], output

    def keep_stream(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["before"] = args[0]

    # a block's input is the stream before `proj`; what its second norm reads is the stream before `lin2`
    reader = part if role == "proj" else part.norm2
    handles = [layer.register_forward_hook(keep_layer), reader.register_forward_pre_hook(keep_stream)]
    encoder_of(model)(image)
    for handle in handles:
        handle.remove()
    windowed = role == "proj" and in_windows(block)
    return (
        by_position(seen["inputs"], windowed),
        by_position(seen["output"], windowed),
        by_position(seen["before"], False),
    )


@torch.no_grad()
def corrected_slowly(
    small: nn.Module, teacher: nn.Module, sets: dict[str, TinySamples], weighting: Any, target: str, bias: bool
) -> None:
    pairs = {
        name: [batch_of([(s.image, s.box)], Frame(TINY.image_size)) for s in samples] for name, samples in sets.items()
    }
    inputs = [
        (images.double(), boxes.double(), len(sets) * len(sets[name])) for name in sets for images, boxes in pairs[name]
    ]
    for block in range(TINY.depth):
        for role in ("proj", "lin2"):
            layer = blocks_of(small)[block].layers[role]
            name = blocks_of(small)[block].layer_names[role]
            rows, wanted = [], []
            for image, box, count in inputs:
                x, _, ours_before = run(small, image, block, role)
                _, theirs, theirs_before = run(teacher, image, block, role)
                t = theirs if target == "layer" else theirs_before + theirs - ours_before
                weights = weighting(teacher, image, box)[name].flatten().double() if weighting else torch.ones(SIDE**2)
                root = (weights.double() / (count * SIDE**2)).sqrt()[:, None]
                if bias:
                    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
                else:
                    t = t - layer.bias
                rows.append(root * x)
                wanted.append(root * t)
            x, t = torch.cat(rows), torch.cat(wanted)
            width = layer.in_features
            ridge = 1e-3 * x[:, :width].square().sum(0).mean()
            pull = ridge.sqrt() * torch.eye(width, x.shape[1], dtype=x.dtype)
            solved = torch.linalg.lstsq(
                torch.cat([x, pull]), torch.cat([t, ridge.sqrt() * layer.weight.T]), driver="gelsd"
            ).solution
            layer.weight.copy_(solved[:width].T)
            if bias:
                layer.bias.copy_(solved[width])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("target", ["layer", "stream"])
@pytest.mark.parametrize("weighting", ["none", "brightness"])
def test_correction_is_dense_least_squares(
    weighting: str, target: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTINGS, "brightness", by_brightness)
    teacher = tiny_sam().double()
    # sets of different size: each of them weighs the same
    sets = {"a": TinySamples("a", 2), "b": TinySamples("b", 3)}
    fast = mp.prune(teacher, make_plan(teacher, "h50_m50"))
    slow = copy.deepcopy(fast)
    options = {"weighting": weighting, "target": target, "bias": bias, "values": False}
    mp.correct(fast, teacher, sets, batch_size=2, progress=False, **options)
    corrected_slowly(slow, teacher, sets, by_brightness if weighting == "brightness" else None, target, bias)
    for (name, one), other in zip(fast.state_dict().items(), slow.state_dict().values(), strict=True):
        assert float((one - other).norm()) <= 1e-6 * float(other.norm()), name
