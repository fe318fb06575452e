"""segment-anything's attention through PyTorch's fused kernels, without the map of all pairs of tokens.

The relative position bias of a query q at (y, x) and a key at (y', x') is decomposed:

    b(q, key) = q . R_h[y, y'] + q . R_w[x, x']

Where nothing is differentiated it is handed to `scaled_dot_product_attention` as a mask, a few maps at a time. A fused
kernel has no gradient for its mask, so where gradients are wanted the bias becomes part of the product instead: with
e(y') and e(x') the unit vectors of a key's row and column,

    scale q . k + b  =  [scale q, q R_h, q R_w] . [k, e(y'), e(x')]

which is exact, and takes memory in proportion to the tokens rather than to their pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import compat  # noqa: F401  # before segment_anything, which imports torchvision
from .._support.devices import free_bytes

from segment_anything.modeling.image_encoder import Attention, get_rel_pos  # isort: skip


MASK_BYTES = 64 << 20
"""How large the bias of the maps that are computed together may be; one map is always allowed."""
_OF_FREE = 8
"""On a GPU, where few maps at a time leave it idle, one part in so many of its free memory, if that is more."""


class SdpaAttention(Attention):
    """`Attention` of segment-anything with the same parameters, settings and results, computed another way."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, h, w, D) tokens of images or of windows to the same shape, as `Attention` does up to rounding."""
        batch, h, w, _ = x.shape
        qkv = self.qkv(x).reshape(batch, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        # a map of its own for every image and head
        q, k, v = qkv.reshape(3, batch * self.num_heads, h * w, -1).unbind(0)
        out = self._attend(q, k, v, (h, w))
        out = out.view(batch, self.num_heads, h, w, -1).permute(0, 2, 3, 1, 4)
        return self.proj(out.reshape(batch, h, w, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, sides: tuple[int, int]) -> Tensor:
        if not self.use_rel_pos:
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        tables = self.tables(sides)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, *tables)):
            return attend_differentiably(q, k, v, tables, self.scale)
        return attend_masked(q, k, v, tables, self.scale)

    def tables(self, sides: tuple[int, int]) -> tuple[Tensor, ...]:
        """Relative positions R_h (h, h, d) and R_w (w, w, d), of a query's coordinate, then a key's."""
        return tuple(
            get_rel_pos(side, side, table) for side, table in zip(sides, (self.rel_pos_h, self.rel_pos_w), strict=True)
        )


def relative_terms(q: Tensor, tables: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The two parts of the bias of every query: for each row of keys (B, h * w, h), for each column (B, h * w, w).

    The queries are (B, h * w, d), row by row; the tables R_h (h, h, d) and R_w (w, w, d), of a query's coordinate, then
    a key's.
    """
    rows, columns = tables
    grid = q.unflatten(1, (len(rows), len(columns)))
    by_row = torch.einsum("byxd,ykd->byxk", grid, rows)
    by_column = torch.einsum("byxd,xkd->byxk", grid, columns)
    return by_row.flatten(1, 2), by_column.flatten(1, 2)


def attend_masked(q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, ...], scale: float) -> Tensor:
    """Attention of q, k, v (B, n, d) with the bias as a mask, for a forward pass alone."""
    maps_at_once = max(1, mask_bytes(q.device) // (q.shape[1] * k.shape[1] * q.element_size()))
    parts = []
    for q_part, k_part, v_part in zip(*(t.split(maps_at_once) for t in (q, k, v)), strict=True):
        by_row, by_column = relative_terms(q_part, tables)
        mask = (by_row[..., :, None] + by_column[..., None, :]).flatten(2)
        parts.append(_sdpa(q_part, k_part, v_part, scale, mask.to(q_part.dtype)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def mask_bytes(device: torch.device) -> int:
    """How large the bias of the maps that are computed together may be on a device."""
    if device.type != "cuda":
        return MASK_BYTES
    if torch.compiler.is_compiling():
        # what is compiled asks for no memory that is free now
        return int(max(MASK_BYTES, torch.cuda.get_device_properties(device).total_memory // (4 * _OF_FREE)))
    return max(MASK_BYTES, free_bytes(device) // _OF_FREE)


def attend_differentiably(q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, ...], scale: float) -> Tensor:
    """Attention of q, k, v (B, n, d) with the bias in the product of longer queries and keys, for a backward pass."""
    h, w = (len(table) for table in tables)
    row = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, dim=0)
    column = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
    place = torch.cat([row, column], dim=1)
    longer_q = torch.cat([(q * scale).to(q.dtype), *(term.to(q.dtype) for term in relative_terms(q, tables))], dim=2)
    longer_k = torch.cat([k, place.expand(len(k), -1, -1)], dim=2)
    # the fused kernels want values as long as the keys
    return _sdpa(longer_q, longer_k, F.pad(v, (0, h + w)), 1.0)[..., : v.shape[2]]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    # the fused kernels take four dimensions: here one head a "batch" entry
    wide = None if mask is None else mask[:, None]
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=wide, scale=scale)[:, 0]
