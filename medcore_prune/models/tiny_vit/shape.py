"""Sizes of a SAM with a TinyViT encoder: the published ones by name, and those that a checkpoint's tensors tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

from ..._support.errors import CheckpointError, MedcorePruneError
from ..._support.records import Record, within
from ..._support.words import lines_of

EXPANSION = 4
"""Channels inside an MLP or a bottleneck, a channel outside."""
STAGES = 4


def _sizes(lowest: int, highest: int) -> object:
    return within(lowest, highest, whole=True)


@dataclass(frozen=True)
class TinyVitShape(Record, closed=True):
    """Hyper-parameters of the encoder, unpruned, and of SAM's decoder behind it.

    Attributes:
        image_size: Input side in pixels.
        stem_kernel: Side of the two first convolutions; stride 1 where it is 1 (LiteMedSAM), 2 where it is 3
            (MobileSAM).
        widths, depths, heads, windows: Of the four stages; the first is of convolutions, its heads and window are 0.
        out_channels: Channels of prompt encoder and mask decoder.
        decoder_heads, decoder_mlp_dim, iou_hidden_dim: Of the mask decoder.
    """

    image_size: Annotated[int, _sizes(1, 1 << 14)]
    stem_kernel: Annotated[int, _sizes(1, 3)]
    widths: tuple[Annotated[int, _sizes(1, 1 << 12)], ...]
    depths: tuple[Annotated[int, _sizes(1, 1 << 6)], ...]
    heads: tuple[Annotated[int, _sizes(0, 1 << 10)], ...]
    windows: tuple[Annotated[int, _sizes(0, 1 << 5)], ...]
    out_channels: Annotated[int, _sizes(1, 1 << 13)] = 256
    decoder_heads: Annotated[int, _sizes(1, 1 << 8)] = 8
    decoder_mlp_dim: Annotated[int, _sizes(1, 1 << 16)] = 2048
    iou_hidden_dim: Annotated[int, _sizes(1, 1 << 14)] = 256

    @property
    def stem_stride(self) -> int:
        """Of each of the two first convolutions."""
        return 1 if self.stem_kernel == 1 else 2

    @property
    def merging_strides(self) -> tuple[int, ...]:
        """Between the stages; the last does not halve the side, which is SAM's change to TinyViT."""
        return (2, 2, 1)

    @property
    def sides(self) -> tuple[int, ...]:
        """Tokens along one side in each stage."""
        side = self.image_size // self.stem_stride**2
        return (side, side // 2, side // 4, side // 4)

    def check(self) -> None:
        """Refuse sizes that do not go together."""
        stages = (self.widths, self.depths, self.heads, self.windows)
        if any(len(each) != STAGES for each in stages) or self.stem_kernel == 2:
            raise MedcorePruneError(f"expected the sizes of a TinyViT of {STAGES} stages, got {self}")
        if any(not h or w % h for w, h in zip(self.widths[1:], self.heads[1:], strict=True)) or 0 in self.windows[1:]:
            raise MedcorePruneError(f"the heads {self.heads} do not divide the widths {self.widths}, or have no window")
        if self.out_channels % self.decoder_heads or self.widths[0] % 2:
            raise MedcorePruneError(f"{self.out_channels} channels cannot be shared by {self.decoder_heads} heads")
        whole = 4 * self.stem_stride**2
        if self.image_size % whole:
            raise MedcorePruneError(f"image size {self.image_size} does not fit: use a multiple of {whole}")


_SIZES = ((64, 128, 160, 320), (2, 2, 6, 2), (0, 4, 5, 10), (0, 7, 14, 7))
KINDS: dict[str, TinyVitShape] = {
    "lite_medsam": TinyVitShape(256, 1, *_SIZES),
    "mobile_sam": TinyVitShape(1024, 3, *_SIZES),
}

STEM = "image_encoder.patch_embed.seq.0.c.weight"
"""The tensor by which a SAM with a TinyViT is known."""
_NECK = "image_encoder.neck.0.weight"
_DECODER_MLP = "mask_decoder.transformer.layers.0.mlp.lin1.weight"
_IOU = "mask_decoder.iou_prediction_head.layers.0.weight"

Sizes = Mapping[str, Sequence[int]]


def is_tiny_vit(sizes: Sizes) -> bool:
    """Whether tensors are those of a SAM with a TinyViT, complete or not, by the name of the first."""
    return STEM in sizes


def _table(index: int) -> str:
    return f"image_encoder.layers.{index}.blocks.0.attn.attention_biases"


def read_tiny_vit(sizes: Sizes) -> TinyVitShape:
    """Read the sizes that the tensors of an unpruned checkpoint tell, by name and shape.

    ::

        stem_kernel      image_encoder.patch_embed.seq.0.c.weight   (C / 2, 3, k, k)
        widths           image_encoder.layers.i.downsample.conv1.c  (C of stage i + 1, C of stage i, 1, 1)
        depths           image_encoder.layers.i.blocks.*            how many there are
        heads, windows   ....blocks.0.attn.attention_biases         (heads, window^2)
        image_size, decoder_heads    no tensor: the kind in `KINDS` that all others are of
    """
    try:
        merging = [sizes[f"image_encoder.layers.{i}.downsample.conv1.c.weight"] for i in range(STAGES - 1)]
        tables = [sizes[_table(i)] for i in range(1, STAGES)]
        found = TinyVitShape(
            image_size=1,
            stem_kernel=sizes[STEM][2],
            widths=(merging[0][1], *(each[0] for each in merging)),
            depths=tuple(_depth(sizes, i) for i in range(STAGES)),
            heads=(0, *(heads for heads, _ in tables)),
            windows=(0, *(math.isqrt(offsets) for _, offsets in tables)),
            out_channels=sizes[_NECK][0],
            decoder_mlp_dim=sizes[_DECODER_MLP][0],
            iou_hidden_dim=sizes[_IOU][0],
        )
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"expected the weights of a SAM with a TinyViT: {error} is missing or odd") from error
    for known in KINDS.values():
        if replace(found, image_size=known.image_size, decoder_heads=known.decoder_heads) == known:
            return known
    raise CheckpointError(
        f"its tensors are a SAM with a TinyViT of no known kind; is it a pruned one? known kinds, and what differs:"
        f"{lines_of(_differences(found))}"
    )


_NO_TENSOR_TELLS = ("image_size", "decoder_heads")


def _differences(found: TinyVitShape) -> dict[str, str]:
    """Kind to the sizes that it would need, the nearest first."""
    names = [each.name for each in fields(found) if each.name not in _NO_TENSOR_TELLS]
    other = {
        kind: [
            f"{name} {getattr(known, name)} in place of {getattr(found, name)}"
            for name in names
            if getattr(known, name) != getattr(found, name)
        ]
        for kind, known in KINDS.items()
    }
    return {kind: ", ".join(other[kind]) for kind in sorted(other, key=lambda kind: len(other[kind]))}


def _depth(sizes: Sizes, stage: int) -> int:
    start = f"image_encoder.layers.{stage}.blocks."
    return len({name[len(start) :].split(".")[0] for name in sizes if name.startswith(start)})


def kind_of_tiny_vit(shape: TinyVitShape) -> str:
    """Name the kind in `KINDS` that a shape is."""
    return next(name for name, known in KINDS.items() if known == shape)
