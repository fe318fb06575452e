"""A SAM with a TinyViT that is small enough to run hundreds of times in a test: padded windows, unequal blocks."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medcore_prune.models.families import untrained
from medcore_prune.models.tiny_vit.family import TinyVitFamily
from medcore_prune.models.tiny_vit.shape import TinyVitShape

# 16 x 16 tokens in windows of 3, then 8 x 8 in windows of 5, then 8 x 8 in windows of 4: two of them are padded
LITE = TinyVitShape(
    image_size=32,
    stem_kernel=1,
    widths=(8, 16, 24, 32),
    depths=(1, 2, 1, 1),
    heads=(0, 2, 3, 4),
    windows=(0, 3, 5, 4),
    out_channels=16,
    decoder_heads=2,
    decoder_mlp_dim=32,
    iou_hidden_dim=16,
)


def tiny_lite(seed: int = 0, shape: TinyVitShape = LITE) -> nn.Module:
    """A `Sam` with all that untrained weights leave at 0 or 1 drawn: tables, biases, norms and their statistics."""
    model = untrained(lambda: TinyVitFamily().build(shape.values()), "cpu", seed)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, value in model.image_encoder.state_dict().items():  # type: ignore[union-attr]
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=rng))
            elif name.endswith(("bias", "running_mean", "attention_biases")):
                value.copy_(0.3 * torch.randn(value.shape, generator=rng))
    return model


def lite_batch(count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, 32, 32), boxes (B, 4) and masks (B, 1, 32, 32)."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand((count, 3, 32, 32), generator=rng)
    boxes = torch.tensor([[6.0, 7.0, 23.0, 24.0]]).repeat(count, 1) + torch.arange(count)[:, None]
    masks = torch.zeros(count, 1, 32, 32)
    for index in range(count):
        masks[index, :, 7 + index : 25 + index, 6 + index : 24 + index] = 1.0
    return images, boxes, masks


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with what MobileSAM's published file has beside them: its encoder's classifier."""
    width = state["image_encoder.neck.0.weight"].shape[1]
    return {
        **state,
        "image_encoder.norm_head.weight": torch.ones(width),
        "image_encoder.norm_head.bias": torch.zeros(width),
        "image_encoder.head.weight": torch.zeros(10, width),
        "image_encoder.head.bias": torch.zeros(10),
    }
