"""What SAM-HQ adds to a SAM: a finer feature, from an early block and the embedding, and a token that reads it.

Ke et al. 2023, Segment Anything in High Quality, arXiv 2306.01567. Names of parameters are those of its checkpoints.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ... import compat  # noqa: F401  # before segment_anything, which imports torchvision

from segment_anything.modeling import ImageEncoderViT, MaskDecoder  # isort: skip
from segment_anything.modeling.common import LayerNorm2d  # isort: skip
from segment_anything.modeling.mask_decoder import MLP  # isort: skip


class HqEncoder(ImageEncoderViT):
    """SAM's image encoder, which hands on what its first block of global attention gives beside the embedding.

    (B, 3, S, S) to (B, C + D, h, w): the neck's C channels first, then the block's D.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the encoder."""
        tokens: Tensor = self.patch_embed(x)
        if self.pos_embed is not None:
            tokens = tokens + self.pos_embed
        early: Tensor | None = None
        for block in self.blocks:
            tokens = block(tokens)
            # told by the block itself, so that no cut and no copy can make it another
            if early is None and block.window_size == 0:
                early = tokens
        assert early is not None
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return torch.cat([embedding, early.permute(0, 3, 1, 2)], dim=1)


def _finer(channels: int, between: int, out: int) -> nn.Sequential:
    """Four times the side: (B, channels, h, w) to (B, out, 4 h, 4 w)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, between, kernel_size=2, stride=2),
        LayerNorm2d(between),
        nn.GELU(),
        nn.ConvTranspose2d(between, out, kernel_size=2, stride=2),
    )


class HqDecoder(MaskDecoder):
    """SAM's mask decoder with SAM-HQ's token, its MLP, and the three stacks that make the finer feature."""

    def __init__(self, *, early_channels: int, **given: Any) -> None:
        super().__init__(**given)
        width = self.transformer_dim
        self.hf_token = nn.Embedding(1, width)
        self.hf_mlp = MLP(width, width, width // 8, 3)
        self.compress_vit_feat = _finer(early_channels, width, width // 8)
        self.embedding_encoder = _finer(width, width // 4, width // 8)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(width // 8, width // 4, 3, 1, 1),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 8, 3, 1, 1),
        )

    def finer(self, upscaled: Tensor, embedding: Tensor, early: Tensor) -> Tensor:
        """Compute what the token reads, (B, C / 8, 4 h, 4 w) as upscaled, of (B, C, h, w) and (B, D, h, w)."""
        fine: Tensor = self.embedding_maskfeature(upscaled)
        return fine + self.embedding_encoder(embedding) + self.compress_vit_feat(early)
