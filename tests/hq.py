"""Checkpoints in SAM-HQ's format, and a SAM-HQ that is small enough to run hundreds of times in a test."""

import torch
from tiny import TINY
from torch import Tensor, nn

from medcore_prune.models.sam_hq.family import build_sam_hq
from medcore_prune.models.sam_shape import SHAPES

# what the published files hold beside SAM's tensors, for C channels of the decoder and D of the encoder
BESIDE = {
    "hf_token.weight": lambda c, d: (1, c),
    **{f"hf_mlp.layers.{n}.weight": lambda c, d: (c, c) for n in (0, 1)},
    **{f"hf_mlp.layers.{n}.bias": lambda c, d: (c,) for n in (0, 1)},
    "hf_mlp.layers.2.weight": lambda c, d: (c // 8, c),
    "hf_mlp.layers.2.bias": lambda c, d: (c // 8,),
    "compress_vit_feat.0.weight": lambda c, d: (d, c, 2, 2),
    "compress_vit_feat.0.bias": lambda c, d: (c,),
    "compress_vit_feat.1.weight": lambda c, d: (c,),
    "compress_vit_feat.1.bias": lambda c, d: (c,),
    "compress_vit_feat.3.weight": lambda c, d: (c, c // 8, 2, 2),
    "compress_vit_feat.3.bias": lambda c, d: (c // 8,),
    "embedding_encoder.0.weight": lambda c, d: (c, c // 4, 2, 2),
    "embedding_encoder.0.bias": lambda c, d: (c // 4,),
    "embedding_encoder.1.weight": lambda c, d: (c // 4,),
    "embedding_encoder.1.bias": lambda c, d: (c // 4,),
    "embedding_encoder.3.weight": lambda c, d: (c // 4, c // 8, 2, 2),
    "embedding_encoder.3.bias": lambda c, d: (c // 8,),
    "embedding_maskfeature.0.weight": lambda c, d: (c // 4, c // 8, 3, 3),
    "embedding_maskfeature.0.bias": lambda c, d: (c // 4,),
    "embedding_maskfeature.1.weight": lambda c, d: (c // 4,),
    "embedding_maskfeature.1.bias": lambda c, d: (c // 4,),
    "embedding_maskfeature.3.weight": lambda c, d: (c // 8, c // 4, 3, 3),
    "embedding_maskfeature.3.bias": lambda c, d: (c // 8,),
}


def beside(channels: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """Those tensors, drawn; of a size that moves a mask and does not decide it."""
    rng = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(sizes(channels, width), generator=rng) for name, sizes in BESIDE.items()}
    return {f"mask_decoder.{name}": value / max(1, value[0].numel()) ** 0.5 for name, value in drawn.items()}


def hq_state(sam: nn.Module, kind: str = "pocket", seed: int = 0) -> dict[str, Tensor]:
    """What a checkpoint of SAM-HQ holds that was trained from a SAM: its tensors as they are, and those beside."""
    shape = SHAPES[kind]
    return sam.state_dict() | beside(shape.out_channels, shape.embed_dim, seed)


def tiny_hq(seed: int = 0) -> nn.Module:
    """A tiny SAM-HQ whose tables, positions, biases and norms are as non-zero as trained ones."""
    model = build_sam_hq(TINY, seed=seed)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name or name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model
