"""A SAM small enough to run hundreds of times in a test, with every feature of the large ones."""

import torch
from torch import nn

from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam

# 6 x 6 tokens in windows of 4: windows are padded, as SAM's 64 x 64 in windows of 14 are
TINY = SamShape(
    image_size=48,
    patch_size=8,
    embed_dim=24,
    depth=4,
    num_heads=4,
    global_blocks=(1, 3),
    window=4,
    out_channels=16,
    decoder_heads=2,
    decoder_mlp_dim=32,
    iou_hidden_dim=16,
)


def tiny_sam(seed: int = 0, shape: SamShape = TINY) -> nn.Module:
    """A tiny `Sam` whose relative positions, positions, biases and norms are as non-zero as trained ones."""
    model = build_sam(shape, seed=seed)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in encoder_of(model).named_parameters():
            if "rel_pos" in name or "pos_embed" in name or name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    assert len(blocks_of(model)) == shape.depth
    return model


def tiny_batch(count: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (B, 3, 48, 48), boxes (B, 4) and masks (B, 1, 48, 48) for `tiny_sam`."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand((count, 3, 48, 48), generator=rng)
    boxes = torch.tensor([[8.0, 10.0, 33.0, 36.0]]).repeat(count, 1)
    masks = torch.zeros(count, 1, 48, 48)
    masks[:, :, 10:37, 8:34] = 1.0
    return images, boxes, masks
