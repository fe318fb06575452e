"""An encoder whose blocks differ in width, tokens, heads, windows and the order of their rows, with a small decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medcore_prune.models.family import Block, Geometry, block_of


class Attention(nn.Module):
    """Attention in windows, with its norm inside, behind the padding; head after head, or q, k, v one after another."""

    def __init__(self, width: int, heads: int, head_dim: int, window: int, by_head: bool) -> None:
        super().__init__()
        self.heads, self.head_dim, self.window, self.by_head = heads, head_dim, window, by_head
        self.norm = nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * heads * head_dim), nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, side, _, width = x.shape
        w = self.window or side
        n = -(-side // w)
        padded = F.pad(x, (0, 0, 0, n * w - side, 0, n * w - side))
        windows = padded.view(batch, n, w, n, w, width).transpose(2, 3).reshape(-1, w * w, width)
        fused = self.qkv(self.norm(windows))
        if self.by_head:
            q, k, v = fused.unflatten(2, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        else:
            q, k, v = fused.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) * self.head_dim**-0.5).softmax(-1)
        given = self.proj((weights @ v).transpose(1, 2).flatten(2)).view(batch, n, n, w, w, width)
        return given.transpose(2, 3).reshape(batch, n * w, n * w, width)[:, :side, :side]


class Layer(nn.Module):
    """A block with a depthwise convolution between attention and MLP."""

    def __init__(self, width: int, heads: int, head_dim: int, window: int, by_head: bool, side: int) -> None:
        super().__init__()
        self.side, self.attn = side, Attention(width, heads, head_dim, window, by_head)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.lin1, self.lin2 = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        x = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.lin2(F.gelu(self.lin1(self.norm(x))))


class Unequal(nn.Module):
    """Two windowed blocks of 8 x 8 tokens, two channels and rows head by head; then two global ones of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.fine = nn.ModuleList(Layer(16, 2, 8, 3, True, 8) for _ in range(2))
        self.merge = nn.Conv2d(16, 24, 2, 2)
        self.coarse = nn.ModuleList(Layer(24, 6, 4, 0, False, 4) for _ in range(2))
        self.box, self.mask = nn.Linear(4, 24), nn.ConvTranspose2d(24, 1, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).permute(0, 2, 3, 1)
        for layer in self.fine:
            x = layer(x)
        x = self.merge(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        for layer in self.coarse:
            x = layer(x)
        return x.permute(0, 3, 1, 2)


class UnequalFamily:
    """Shows them."""

    name = "unequal"

    def matches(self, model: nn.Module) -> bool:
        return isinstance(model, Unequal)

    def encoder(self, model: nn.Module) -> nn.Module:
        return model

    def blocks(self, model: nn.Module) -> list[Block]:
        paths = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "lin1", "lin2": "lin2"}
        named = [
            (f"{stage}.{n}", layer) for stage in ("fine", "coarse") for n, layer in enumerate(getattr(model, stage))
        ]
        return [
            block_of(
                layer,
                index,
                name,
                paths,
                layer.attn,
                layer.attn.heads,
                layer.attn.window,
                side=layer.side,
                row_order="heads" if layer.attn.by_head else "parts",
            )
            for index, (name, layer) in enumerate(named)
        ]

    def geometry(self, model: nn.Module) -> Geometry:
        return Geometry(image_size=32, patch_size=4, embed_dim=16, out_channels=0)

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        block.attention.heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        return model(images)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        return model.mask(embeddings + model.box(boxes / 32)[:, :, None, None])


def unequal(seed: int = 0) -> Unequal:
    """One with untrained weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Unequal().eval()
