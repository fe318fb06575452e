"""TinyViT as the encoder of MobileSAM and LiteMedSAM: a stem of convolutions, then three stages of attention.

Written anew with the names of the published files' tensors, so that those load as they are (Wu et al. 2022, TinyViT,
arXiv 2207.10666; Zhang et al. 2023, MobileSAM, arXiv 2306.14289). Tokens stay squares, (B, h, w, C), throughout. The
map of relative positions is gathered from its table at every call, so that it follows a cut and training alike.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import compat  # noqa: F401  # before segment_anything, which imports torchvision
from .shape import EXPANSION, TinyVitShape

from segment_anything.modeling.common import LayerNorm2d  # isort: skip


class ConvNorm(nn.Sequential):
    """A convolution without bias, then BatchNorm, in one pass where nothing is differentiated."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, given: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(given, out, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h', w')."""
        conv, norm = self.c, self.bn
        if norm.training or (torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)):
            apart: Tensor = norm(conv(x))
            return apart
        # at full resolution another pass over the features costs as much as the convolution
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        weight, kernel = conv.weight * scale[:, None, None, None], conv.kernel_size[0]
        return F.conv2d(x, weight, shift, conv.stride, kernel // 2, groups=conv.groups)


class PatchEmbed(nn.Module):
    """Two convolutions: 1 x 1 at full resolution in LiteMedSAM, 3 x 3 with stride 2 in MobileSAM."""

    def __init__(self, shape: TinyVitShape) -> None:
        super().__init__()
        width, kernel, stride = shape.widths[0], shape.stem_kernel, shape.stem_stride
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, kernel, stride), nn.GELU(), ConvNorm(width // 2, width, kernel, stride)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, C, h, w)."""
        features: Tensor = self.seq(images)
        return features


class MBConv(nn.Module):
    """MobileNet's inverted bottleneck with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        inner = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(self.conv3(inner) + x)


class PatchMerging(nn.Module):
    """To the next stage's channels, and to half the side where the stride is 2."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(given, out)
        self.conv2 = ConvNorm(out, out, 3, stride, groups=out)
        self.conv3 = ConvNorm(out, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, C) to (B, h / stride, w / stride, C')."""
        x = tokens.permute(0, 3, 1, 2)
        x = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return x.permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Attention inside one window, normed on the way in; `qkv` gives q, k and v of one head after another."""

    def __init__(self, width: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.key_dim = num_heads, width // num_heads
        self.scale = self.key_dim**-0.5
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        offsets = _offsets(window)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window**2))
        self.attention_bias_idxs: Tensor
        self.register_buffer("attention_bias_idxs", offsets, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, n, C) to the same shape; padding has taken part in it, as the norm's bias."""
        windows, n, _ = tokens.shape
        fused = self.qkv(self.norm(tokens)).view(windows, n, self.num_heads, 3, self.key_dim)
        q, k, v = fused.permute(3, 0, 2, 1, 4)
        attended = self._attend(q, k, v, self.attention_biases[:, self.attention_bias_idxs])
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(windows, n, -1))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attend, (windows, heads, n, d) each, with a bias (heads, n, n)."""
        return ((q @ k.transpose(-2, -1)) * self.scale + bias).softmax(dim=-1) @ v


class SdpaAttention(Attention):
    """The same through PyTorch's fused kernels: on a CPU three quarters of the time behind the stem."""

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        mask = bias.to(q.dtype).expand(len(q), -1, -1, -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)


def _offsets(window: int) -> Tensor:
    """Column of the table for each pair of tokens, (n, n), n = window^2, in the order in which offsets first occur."""
    place = torch.arange(window)
    rows, columns = place.repeat_interleave(window), place.repeat(window)
    # the first token meets every offset (|dy|, |dx|) once, row by row
    return (rows[:, None] - rows).abs() * window + (columns[:, None] - columns).abs()


class Mlp(nn.Module):
    """Two linear layers, normed on the way in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(tokens))))
        return out


class Block(nn.Module):
    """Attention in windows, a depthwise convolution, and an MLP."""

    def __init__(self, width: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.window_size = window
        self.attn = Attention(width, num_heads, window)
        self.mlp = Mlp(width)
        self.local_conv = ConvNorm(width, width, 3, groups=width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, C) to the same shape; windows that overhang are filled up with zeros, before the norm."""
        x = tokens + self._attend(tokens)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = x + self.mlp(x)
        return out

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, h, w, width = tokens.shape
        side = self.window_size
        # not -(-h // side): ONNX divides whole numbers towards zero
        rows, columns = (h + side - 1) // side, (w + side - 1) // side
        x = F.pad(tokens, (0, 0, 0, columns * side - w, 0, rows * side - h))
        x = x.view(batch, rows, side, columns, side, width).transpose(2, 3)
        x = self.attn(x.reshape(-1, side * side, width)).view(batch, rows, columns, side, side, width)
        return x.transpose(2, 3).reshape(batch, rows * side, columns * side, width)[:, :h, :w]


class Stage(nn.Module):
    """Blocks, then the way to the next stage, if there is one."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, C) to what the next stage reads."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class ConvStage(Stage):
    """The first stage, whose blocks are convolutions."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, C, h, w) to (B, h', w', C')."""
        for block in self.blocks:
            tokens = block(tokens)
        assert self.downsample is not None
        out: Tensor = self.downsample(tokens.permute(0, 2, 3, 1))
        return out


class TinyVit(nn.Module):
    """The encoder: (B, 3, S, S) to (B, out_channels, S / p, S / p), p = 4 in LiteMedSAM and 16 in MobileSAM.

    Args:
        shape: Its sizes, unpruned.
    """

    def __init__(self, shape: TinyVitShape) -> None:
        super().__init__()
        self.img_size = shape.image_size
        self.patch_embed = PatchEmbed(shape)
        self.layers = nn.ModuleList(_stage(shape, index) for index in range(len(shape.depths)))
        channels = shape.out_channels
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], channels, 1, bias=False),
            LayerNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )

    def stem(self, images: Tensor) -> Tensor:
        """What lies before the first block that can be cut: (B, 3, S, S) to (B, h, w, C)."""
        # convolutions run faster on channels that lie side by side, and blocks read them so
        tokens: Tensor = self.layers[0](self.patch_embed(images.contiguous(memory_format=torch.channels_last)))
        return tokens

    def rest(self, tokens: Tensor) -> Tensor:
        """Everything behind the stem."""
        for stage in self.layers[1:]:
            tokens = stage(tokens)
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        return self.rest(self.stem(images))


def _stage(shape: TinyVitShape, index: int) -> Stage:
    width, depth, last = shape.widths[index], shape.depths[index], len(shape.depths) - 1
    merging = None if index == last else PatchMerging(width, shape.widths[index + 1], shape.merging_strides[index])
    if index == 0:
        return ConvStage([MBConv(width) for _ in range(depth)], merging)
    heads, window = shape.heads[index], shape.windows[index]
    return Stage([Block(width, heads, window) for _ in range(depth)], merging)
