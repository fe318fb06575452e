"""The values of a block's few remaining heads, fitted together with `proj` by reduced-rank regression.

With the attention A_i of head i left as it is, the block adds sum_i Z_i B_i + b to the stream, where Z_i = A_i X pools
the block's normed inputs X and B_i = W_v,i W_o,i has the rank of a head. For one head the best B_i is known in closed
form (Izenman 1975): the least-squares map, projected onto the largest principal directions of what it gives,

    B = M^-1 (Z' D T + R B_old) V V',   M = Z' D Z + R,   V the first eigenvectors of its fit's (M B)' B

and several heads take turns. `proj` alone can only mix the values that a head happens to have; this chooses them anew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.family import FUSED, Block
from .least_squares import NormalEquations
from .streams import fold_windows, stopping_at

_SWEEPS = 4
"""Turns that each head takes; the residual can only fall, and hardly does after three."""


@dataclass(frozen=True)
class Factors:
    """What a head gives, (x pooled) @ left @ right, in float64.

    `left` (D, head_dim) are the transposed value rows, `right` (head_dim, out) the transposed columns of `proj`.
    """

    left: Tensor
    right: Tensor

    @property
    def product(self) -> Tensor:
        """B, (D, out)."""
        return self.left @ self.right


def pooled_inputs(model: nn.Module, block: Block, tokens: Tensor) -> Tensor:
    """Return what each head pools from the block's normed inputs, Z_i = A_i X: (B, h, w, D) to (B, h, w, heads, D).

    The attention itself does the pooling: `qkv` is made to give a few channels of its inputs as the values of every
    head, as often as it takes to see all channels. Padding of windows takes part and is left out of the result.
    """
    heads, width, values = block.num_heads, block.head_dim, _value_rows(block)
    batch, side, _, channels = tokens.shape
    module = model.get_submodule(block.name)
    parts: list[Tensor] = []
    for start in range(0, channels, width):

        def show(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor, start: int = start) -> Tensor:
            shown = args[0][..., start : start + width]
            shown = F.pad(shown, (0, width - shown.shape[-1]))
            replaced = output.clone()
            replaced[..., values] = shown.repeat(*[1] * (shown.ndim - 1), heads)
            return replaced

        handle = block.layers["qkv"].register_forward_hook(show)
        try:
            pooled = stopping_at(block.layers["proj"], module, tokens)
        finally:
            handle.remove()
        parts.append(fold_windows(pooled, batch, side, block.window).reshape(batch, side, side, heads, width))
    return torch.cat(parts, dim=-1)[..., :channels]


def _value_rows(block: Block) -> Tensor:
    """Rows of `qkv` that give values, head after head."""
    return block.rows("v").flatten().to(block.layers["qkv"].weight.device)


def factors_of(block: Block) -> list[Factors]:
    """Return the value rows and `proj` columns of each head of a block, in float64."""
    values = block.layers["qkv"].weight.detach().double()[_value_rows(block)].split(block.head_dim)
    columns = block.layers["proj"].weight.detach().double().T.split(block.head_dim)
    return [Factors(value.T, column) for value, column in zip(values, columns, strict=True)]


def as_one_layer(block: Block) -> nn.Linear:
    """Return the block's attention as a linear layer of its pooled inputs: (heads * D) to out, in float64."""
    products = torch.cat([factors.product for factors in factors_of(block)])
    inputs, outputs = products.shape
    # without initial weights, which would be drawn from the generator that all share
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, device=products.device, dtype=torch.float64)
    layer.requires_grad_(False)
    layer.weight.copy_(products.T)
    layer.bias.copy_(block.layers["proj"].bias.detach())
    if block.layers["qkv"].bias is not None:
        # attention sums to 1, so the values' biases go through to the output
        values = block.layers["qkv"].bias.detach().double()[_value_rows(block)]
        layer.bias.add_(block.layers["proj"].weight.detach().double() @ values)
    return layer


def fit_factors(equations: NormalEquations, old: Sequence[Factors], ridge: float) -> tuple[list[Factors], Tensor]:
    """Fit all heads, and the constant (out,), to sums over pooled inputs of `as_one_layer`, with the bias.

    The ridge, above 0 and relative to the mean diagonal, pulls to the `old` factors. Not all tokens may vanish.
    """
    size, heads = len(old[0].left), len(old)
    gram, cross = equations.inputs_inputs, equations.inputs_targets
    pull = equations.penalty(ridge)
    parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
    found = list(old)
    constant = _constant(gram, cross, found, parts)
    for _ in range(_SWEEPS):
        for head, part in enumerate(parts):
            others = sum(
                (gram[part, at] @ found[n].product for n, at in enumerate(parts) if n != head), torch.zeros(())
            )
            wanted = cross[part] - others.to(cross) - gram[part, -1:] * constant
            matrix = gram[part, part] + pull * torch.eye(size, dtype=gram.dtype, device=gram.device)
            found[head] = _of_rank(matrix, wanted + pull * old[head].product, old[head].left.shape[1])
            constant = _constant(gram, cross, found, parts)
    return found, constant


def _constant(gram: Tensor, cross: Tensor, found: Sequence[Factors], parts: Sequence[slice]) -> Tensor:
    explained = torch.stack([gram[-1, at] @ factors.product for factors, at in zip(found, parts, strict=True)]).sum(0)
    return (cross[-1] - explained) / gram[-1, -1]


def _of_rank(matrix: Tensor, wanted: Tensor, rank: int) -> Factors:
    """Minimise tr(B' M B) - 2 tr(B' C) over B of a given rank."""
    best = torch.linalg.solve(matrix, wanted)
    directions = torch.linalg.eigh(best.T @ wanted)[1][:, -rank:]
    left = best @ directions
    # values and `proj` share the scale, as trained ones do
    scale = left.norm(dim=0).clamp(min=1e-12).sqrt()
    return Factors(left / scale, (directions * scale).T)


def write_factors(block: Block, found: Sequence[Factors], constant: Tensor) -> None:
    """Write factors into `qkv` and `proj` in place; the values' biases become 0, `proj` has the constant."""
    values, qkv, proj = _value_rows(block), block.layers["qkv"], block.layers["proj"]
    qkv.weight[values] = torch.cat([factors.left.T for factors in found]).to(qkv.weight)
    proj.weight.copy_(torch.cat([factors.right for factors in found]).T)
    proj.bias.copy_(constant)
    if qkv.bias is not None:
        qkv.bias[values] = 0.0


def worth_fitting(dense: Block, cut: Block) -> bool:
    """Whether the values of a block are fitted.

    It lost heads, its `qkv` is one layer, and pooling costs three dense attentions at most.

    Every head pools all channels, head_dim at a time, so a block's pooling costs as much as D / head_dim times the
    attention of its heads; where many are left there is little to win anyway.
    """
    if cut.head_inputs != FUSED:
        return False
    passes = math.ceil(cut.layers["qkv"].in_features / cut.head_dim) * cut.num_heads / dense.num_heads
    return cut.num_heads < dense.num_heads and passes <= 3 and cut.layers["proj"].bias is not None
