"""Which SAM a checkpoint holds, told by the shapes of its tensors alone."""

from dataclasses import replace

import pytest
from tiny import TINY

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError
from medcore_prune.models.sam_shape import SHAPES, kind_of, read_shape
from medcore_prune.models.segment_anything import SamShape, build_sam

Sizes = dict[str, tuple[int, ...]]


def sizes_of(shape: str | SamShape, image_size: int | None = None, level: str = "") -> Sizes:
    model = build_sam(shape, "meta", image_size)
    if level:
        model = mp.prune(model, mp.make_plan(model, level), inplace=True)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("patches", [None, 6, 14])
def test_every_kind_is_told_at_every_image_size(kind: str, patches: int | None) -> None:
    size = patches and patches * SHAPES[kind].patch_size
    shape = read_shape(sizes_of(kind, size))
    assert (kind_of(shape), shape.image_size) == (kind, size or SHAPES[kind].image_size)


def test_where_windows_cover_the_image_the_kind_says_which_blocks_are_global() -> None:
    # 14 x 14 tokens, as large as a window: all tables are alike
    assert read_shape(sizes_of("vit_b", 224)).global_blocks == (2, 5, 8, 11)


def test_what_was_pruned_is_told_as_well() -> None:
    assert read_shape(sizes_of("pocket", level="h50_m70")) == SHAPES["pocket"]


@pytest.mark.parametrize(
    "change",
    [
        {"embed_dim": 132},
        {"depth": 13},
        {"num_heads": 10},
        {"window": 5},
        {"global_blocks": (2, 5, 8)},
        {"out_channels": 32},
        {"decoder_mlp_dim": 128},
        {"iou_hidden_dim": 32},
        {"patch_size": 16},
    ],
)
def test_a_shape_of_ones_own_is_not_taken_for_a_kind(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"of no known kind: 96 px") as caught:
        read_shape(sizes_of(replace(SHAPES["pocket"], **change)))  # type: ignore[arg-type]
    first, *kinds = str(caught.value).splitlines()
    assert "load_sam(SamShape(...), path)" in first
    # the likeliest first, with what differs and nothing else
    assert [kind.split(":")[0].strip() for kind in kinds] == ["pocket", "vit_b", "vit_l", "vit_h"]
    differs = {"num_heads": "10 channels a head in place of 12", "depth": "12 blocks in place of 13"}
    differs |= {"global_blocks": "x 12, 2 x 6, 1 x 12 tokens in place of", "window": "windows of 2 x 6"}
    (name, value), said = *change.items(), kinds[0]
    assert differs.get(name, f"in place of {value}") in said
    if name not in ("embed_dim", "patch_size"):
        assert said.count("in place of") == 1


def test_what_is_told_stands_in_the_message() -> None:
    told = "48 px in patches of 8, 4 blocks of 24 channels in heads of 6, windows of 4, 16 channels to the mask decoder"
    with pytest.raises(CheckpointError, match=told):
        read_shape(sizes_of(TINY))


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("image_encoder.pos_embed", None, r"there is no image_encoder\.pos_embed"),
        ("image_encoder.pos_embed", (1, 12, 6, 120), r"12 blocks, positions \(1, 12, 6, 120\)"),
        ("image_encoder.pos_embed", (1, 0, 0, 120), "positions"),
        ("image_encoder.patch_embed.proj.weight", (120,), r"proj\.weight has shape \(120,\)"),
        ("image_encoder.neck.0.weight", (), r"neck\.0\.weight has shape \(\)"),
        ("image_encoder.blocks.3.attn.rel_pos_h", None, r"there is no .*blocks\.3\.attn\.rel_pos_h"),
        ("mask_decoder.iou_prediction_head.layers.0.weight", None, "there is no mask_decoder"),
    ],
)
def test_what_is_no_sam(name: str, size: tuple[int, ...] | None, reason: str) -> None:
    sizes = {**sizes_of("pocket"), name: size}
    with pytest.raises(CheckpointError, match=f"expected the weights of a SAM: .*{reason}"):
        read_shape({name: size for name, size in sizes.items() if size is not None})
    with pytest.raises(CheckpointError, match="expected the weights of a SAM"):
        read_shape({})
