"""Sizes of a SAM: the published ones by name, and those that a checkpoint's tensors tell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Annotated, Any

from .._support.errors import BudgetError, CheckpointError, MedcorePruneError
from .._support.records import Record, RecordError, Whole, within
from .._support.words import lines_of


@dataclass(frozen=True)
class SamShape:
    """Hyper-parameters of a SAM.

    Attributes:
        image_size, patch_size: Pixels.
        embed_dim, depth, num_heads: Of the image encoder; the MLP is four times as wide.
        global_blocks: Indices of blocks with global attention; the others attend in windows.
        window: Window side in tokens.
        out_channels: Channels of prompt encoder and mask decoder.
        decoder_heads, decoder_mlp_dim, iou_hidden_dim: Of the mask decoder.
    """

    image_size: int
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    window: int
    out_channels: int = 256
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    iou_hidden_dim: int = 256


@dataclass(frozen=True)
class _StoredShape(Record, closed=True):
    """The sizes of a SAM, each far below what a damaged or hostile header could ask for."""

    image_size: Annotated[int, within(1, 1 << 14, whole=True)]
    patch_size: Annotated[int, within(1, 1 << 10, whole=True)]
    embed_dim: Annotated[int, within(1, 1 << 14, whole=True)]
    depth: Annotated[int, within(1, 1 << 8, whole=True)]
    num_heads: Annotated[int, within(1, 1 << 10, whole=True)]
    global_blocks: tuple[Whole, ...]
    window: Annotated[int, within(1, 1 << 10, whole=True)]
    out_channels: Annotated[int, within(1, 1 << 13, whole=True)]
    decoder_heads: Annotated[int, within(1, 1 << 8, whole=True)]
    decoder_mlp_dim: Annotated[int, within(1, 1 << 16, whole=True)]
    iou_hidden_dim: Annotated[int, within(1, 1 << 14, whole=True)]


SHAPES: dict[str, SamShape] = {
    "vit_b": SamShape(1024, 16, 768, 12, 12, (2, 5, 8, 11), 14),
    "vit_l": SamShape(1024, 16, 1024, 24, 16, (5, 11, 17, 23), 14),
    "vit_h": SamShape(1024, 16, 1280, 32, 16, (7, 15, 23, 31), 14),
    "pocket": SamShape(96, 8, 120, 12, 12, (2, 5, 8, 11), 6, 64, 4, 256, 64),
}

_MLP_RATIO = 4


def require_kind(kind: str) -> SamShape:
    """Return the shape of a kind."""
    if kind not in SHAPES:
        raise MedcorePruneError(f"unknown model {kind!r}: expected one of {', '.join(SHAPES)}")
    return SHAPES[kind]


def whole_sizes(shape: SamShape) -> list[tuple[int, int]]:
    """Heads and neurons of every block of an unpruned model of a shape."""
    return [(shape.num_heads, _MLP_RATIO * shape.embed_dim)] * shape.depth


def stored_shape(fields: Mapping[str, Any]) -> SamShape:
    """Read the sizes that a file states, each checked before anything is built from them; else a `BudgetError`."""
    try:
        sizes = _StoredShape.of(fields, "the shape")
    except RecordError as error:
        raise BudgetError(f"expected the sizes of a SAM: {error}") from error
    if not all(0 <= block < sizes.depth for block in sizes.global_blocks):
        raise BudgetError(f"global_blocks is {str(sizes.global_blocks)[:60]}, expected numbers of blocks")
    if sizes.image_size % sizes.patch_size or sizes.embed_dim % sizes.num_heads:
        raise BudgetError("the patch does not divide the image size, or the heads do not divide embed_dim")
    return SamShape(**vars(sizes))


def kind_of(shape: SamShape) -> str:
    """Name the kind in `SHAPES` that a shape is, whatever its input size; `custom` for none of them."""
    for name, known in SHAPES.items():
        if replace(known, image_size=shape.image_size) == shape:
            return name
    return "custom"


@dataclass(frozen=True)
class _Told:
    """What tensors tell of a SAM: all but the number of heads in its mask decoder."""

    image_size: int
    patch_size: int
    embed_dim: int
    head_dim: int
    sides: tuple[int, ...]  # in tokens, that each block attends over
    out_channels: int
    decoder_mlp_dim: int
    iou_hidden_dim: int

    def on_its_grid(self, global_blocks: Sequence[int]) -> "_Told":
        """The same with the tables of global blocks, if they are all of one side, on the grid of the positions."""
        if len({self.sides[block] for block in global_blocks if block < len(self.sides)}) != 1:
            return self
        tokens = self.image_size // self.patch_size
        return replace(self, sides=tuple(tokens if n in global_blocks else side for n, side in enumerate(self.sides)))

    def __str__(self) -> str:
        tokens = self.image_size // self.patch_size
        windows = sorted({side for side in self.sides if side != tokens})
        return (
            f"{self.image_size} px in patches of {self.patch_size}, {len(self.sides)} blocks of {self.embed_dim} "
            f"channels in heads of {self.head_dim}, windows of {', '.join(map(str, windows)) or 'none'}, "
            f"{self.out_channels} channels to the mask decoder"
        )


def _of_shape(shape: SamShape) -> _Told:
    tokens = shape.image_size // shape.patch_size
    return _Told(
        shape.image_size,
        shape.patch_size,
        shape.embed_dim,
        shape.embed_dim // shape.num_heads,
        tuple(tokens if index in shape.global_blocks else shape.window for index in range(shape.depth)),
        shape.out_channels,
        shape.decoder_mlp_dim,
        shape.iou_hidden_dim,
    )


_BLOCKS = "image_encoder.blocks."
PATCHES = "image_encoder.patch_embed.proj.weight"
"""The tensor by which a SAM with a ViT is known."""
_POSITIONS = "image_encoder.pos_embed"
_NECK = "image_encoder.neck.0.weight"
_DECODER_MLP = "mask_decoder.transformer.layers.0.mlp.lin1.weight"
_IOU = "mask_decoder.iou_prediction_head.layers.0.weight"
_HQ_TOKEN = "mask_decoder.hf_token.weight"
_DIMENSIONS = {PATCHES: 4, _POSITIONS: 4, _NECK: 4, _DECODER_MLP: 2, _IOU: 2}

Sizes = Mapping[str, Sequence[int]]


def is_sam(sizes: Sizes) -> bool:
    """Whether tensors are those of a SAM, complete or not, by the name of the first."""
    return PATCHES in sizes


def is_hq(sizes: Sizes) -> bool:
    """Whether tensors are those of a SAM with SAM-HQ's mask decoder, complete or not, by the name of its token."""
    return is_sam(sizes) and _HQ_TOKEN in sizes


def tokens_side(sizes: Sizes) -> int | None:
    """Tokens along a side of the image, from the position embedding (1, side, side, D); None where it tells none."""
    positions = tuple(sizes.get(_POSITIONS, ()))
    return positions[1] if len(positions) == 4 and positions[1] == positions[2] > 0 else None


def global_side(sizes: Sizes, shape: SamShape) -> int:
    """Side in tokens of the grid that the relative positions of global blocks are for, by a checkpoint's tensors.

    Where it is not the image's own, as after fine-tuning at another size, segment-anything interpolates them.
    """
    if not shape.global_blocks:
        return shape.image_size // shape.patch_size
    rows, *_ = sizes.get(f"{_BLOCKS}{shape.global_blocks[0]}.attn.rel_pos_h", (0,))
    return (rows + 1) // 2


def _told_by(sizes: Sizes) -> _Told:
    depth = len({name.split(".")[2] for name in sizes if name.startswith(_BLOCKS)})
    relative = {f"{_BLOCKS}{index}.attn.rel_pos_h": 2 for index in range(depth)}
    for name, dimensions in {**_DIMENSIONS, **relative}.items():
        if name not in sizes:
            raise CheckpointError(
                f"expected the weights of a SAM: there is no {name} beside {PATCHES}: give the whole checkpoint"
            )
        if len(sizes[name]) != dimensions:
            raise CheckpointError(f"expected the weights of a SAM: {name} has shape {tuple(sizes[name])}")
    side, (embed_dim, _, patch, _) = tokens_side(sizes), sizes[PATCHES]
    if side is None or not depth:
        raise CheckpointError(f"expected the weights of a SAM: {depth} blocks, positions {tuple(sizes[_POSITIONS])}")
    tables = [sizes[name] for name in relative]
    return _Told(
        image_size=side * patch,
        patch_size=patch,
        embed_dim=embed_dim,
        head_dim=tables[0][1],
        sides=tuple((length + 1) // 2 for length, _ in tables),
        out_channels=sizes[_NECK][0],
        decoder_mlp_dim=sizes[_DECODER_MLP][0],
        iou_hidden_dim=sizes[_IOU][0],
    )


def read_shape(sizes: Sizes) -> SamShape:
    """Read which SAM of the kinds in `SHAPES`, pruned or not, the tensors of a checkpoint are of, by name and shape.

    ::

        patch_size, embed_dim   image_encoder.patch_embed.proj.weight      (D, 3, p, p)
        image_size              image_encoder.pos_embed                    (1, s, s, D), s p pixels
        depth                   image_encoder.blocks.*                     how many there are
        num_heads               image_encoder.blocks.0.attn.rel_pos_h      (2 side - 1, d), D / d heads
        global_blocks, window   image_encoder.blocks.*.attn.rel_pos_h      side = s is global, another a window
        out_channels            image_encoder.neck.0.weight                (C, D, 1, 1)
        decoder_mlp_dim         mask_decoder.transformer.layers.0.mlp.lin1 (n, C)
        iou_hidden_dim          mask_decoder.iou_prediction_head.layers.0  (n, C)
        decoder_heads           no tensor: the kind in `SHAPES` that all others are of

    Global tables may be of another side than s, all of the same: segment-anything interpolates them when it runs, see
    `global_side`.
    """
    told = _told_by(sizes)
    for known in SHAPES.values():
        shape = replace(known, image_size=told.image_size)
        if _of_shape(shape) in (told, told.on_its_grid(known.global_blocks)):
            return shape
    raise CheckpointError(
        f"its tensors are a SAM of no known kind: {told}; how many heads the mask decoder has no tensor tells: give "
        f"the sizes, load_sam(SamShape(...), path); known kinds, and what differs:{lines_of(_differences(told))}"
    )


_SAID = {
    "patch_size": "patches of {}",
    "embed_dim": "{} channels",
    "head_dim": "{} channels a head",
    "out_channels": "{} channels to the mask decoder",
    "decoder_mlp_dim": "{} neurons in the mask decoder",
    "iou_hidden_dim": "{} neurons in the head of IoU",
}


def _differences(told: _Told) -> dict[str, str]:
    """Kind to the sizes that it would need, the nearest first."""
    wanted = {name: _of_shape(replace(shape, image_size=told.image_size)) for name, shape in SHAPES.items()}
    other = {name: list(_differing(told, shape)) for name, shape in wanted.items()}
    return {name: ", ".join(other[name]) for name in sorted(other, key=lambda name: len(other[name]))}


def _differing(told: _Told, wanted: _Told) -> Iterator[str]:
    for name, text in _SAID.items():
        mine, other = (getattr(each, name) for each in (told, wanted))
        if mine != other:
            yield f"{text.format(other)} in place of {mine}"
    mine, other = told.sides, wanted.sides
    if len(mine) != len(other):
        yield f"{len(other)} blocks in place of {len(mine)}"
    elif mine != other:
        yield f"windows of {_sides(other)} tokens in place of {_sides(mine)}"


def _sides(sides: Sequence[int]) -> str:
    """The sides that blocks attend over, in their order, equal ones together."""
    return ", ".join(f"{len([*same])} x {side}" for side, same in groupby(sides))
