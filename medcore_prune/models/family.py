"""The protocol through which a model family shows its transformer blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from .. import compat  # noqa: F401  # whatever library a model is of, it imports torchvision after this
from .._support.errors import MedcorePruneError, SurgeryError
from ..data.frame import Frame

_MERGE = "merge an adapter into its weight first (peft: merge_and_unload), so that a plain nn.Linear is left"


def require_plain(name: str, layer: object) -> None:
    """Refuse a layer, by its name, that is more than the weight and the bias that pruning reads and cuts.

    It is no `nn.Linear`, its weight is computed from others, or it has parts beside both, such as those of an adapter.
    """
    if not isinstance(layer, nn.Linear):
        raise SurgeryError(f"{name} is {type(layer).__name__}, no nn.Linear: {_MERGE}")
    # the older weight norm leaves a plain attribute, the newer parametrizations a property
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise SurgeryError(
            f"the weight of {name} is computed from others (weight norm, or another parametrization): take that off "
            "first"
        )
    parts = {**layer._parameters, **layer._buffers, **layer._modules}
    if beside := [part for part, value in parts.items() if part not in ("weight", "bias") and value is not None]:
        raise SurgeryError(f"{name} has {', '.join(beside)} beside weight and bias: {_MERGE}")


Part = Literal["q", "k", "v"]
FUSED = ("qkv",)
SEPARATE: tuple[Part, ...] = ("q", "k", "v")
"""Roles of the layers that give queries, keys and values: one for all three, or one each."""

RowOrder = Literal["parts", "heads"]
"""How the rows of a fused `qkv` lie: q, then k, then v, each head after head; or head after head, its q, k and v."""


@dataclass(frozen=True)
class Block:
    """One transformer block, as far as pruning needs to know it.

    Attributes:
        index: Position in the encoder, 0 is the shallowest.
        name: Qualified name in the model, e.g. `image_encoder.blocks.3`.
        layers: The prunable linear layers by role, in the order in which they run: `qkv`, or `q`, `k` and `v`; `proj`
            (attention output); `lin1` and `lin2` (the MLP).
        layer_names: Role to qualified name in the model.
        attention: The module that carries the number of heads.
        num_heads: Heads present now.
        head_dim: Channels of one head.
        window: Side of the attention window in tokens; 0 means global attention.
        side: Tokens along one side of what the block reads; None where it is the encoder's, which `blocks_of` puts in.
        prefix_tokens: Class and register tokens beside those, put in likewise.
        row_order: How the rows of `qkv` lie.
        head_tables: Parameters of `attention` that hold a row a head and go with it, such as relative positions. A
            criterion reads the layers alone.
        mlp_entry: The module that is handed the stream which the MLP adds to; None where that is the block's input and
            what attention adds.
        then: What runs between this block and the next, (B, h, w, D) to what that reads; None for nothing.
    """

    index: int
    name: str
    layers: Mapping[str, nn.Linear]
    layer_names: Mapping[str, str]
    attention: nn.Module
    num_heads: int
    head_dim: int
    window: int
    side: int | None = None
    prefix_tokens: int = 0
    row_order: RowOrder = "parts"
    head_tables: tuple[str, ...] = ()
    mlp_entry: nn.Module | None = None
    then: nn.Module | None = None

    @property
    def table_params(self) -> int:
        """Parameters of `head_tables` that go with one head."""
        return sum(self.attention.get_parameter(name)[0].numel() for name in self.head_tables)

    @property
    def width(self) -> int:
        """Channels of the residual stream that the block reads and adds to."""
        return self.layers["lin1"].in_features

    @property
    def tokens_side(self) -> int:
        """Tokens along one side of the square that the block reads.

        Raises:
            MedcorePruneError: It reads no square.
        """
        if self.side is None:
            raise MedcorePruneError(
                f"{self.name} does not say its grid of tokens: expected a square, as block_of(side=)"
            )
        return self.side

    @property
    def tokens(self) -> int:
        """All tokens that the block reads, prefix tokens included."""
        return self.tokens_side**2 + self.prefix_tokens

    @property
    def padded_side(self) -> int:
        """Tokens along one side with those that only fill its windows up."""
        return self.window * -(-self.tokens_side // self.window) if self.window else self.tokens_side

    @property
    def head_inputs(self) -> tuple[str, ...]:
        """Roles of the layers that heads own rows of, `FUSED` or `SEPARATE`."""
        return FUSED if FUSED[0] in self.layers else SEPARATE

    @property
    def neurons(self) -> int:
        """Hidden neurons of the MLP."""
        return self.layers["lin1"].out_features

    def rows(self, part: Part) -> Tensor:
        """Which rows of the layer that gives queries, keys or values are each head's: (heads, head_dim) int64."""
        rows = torch.arange(self.num_heads * self.head_dim).view(self.num_heads, self.head_dim)
        if self.head_inputs == SEPARATE:
            return rows
        place = SEPARATE.index(part)
        if self.row_order == "parts":
            return rows + place * rows.numel()
        return rows + (torch.arange(self.num_heads)[:, None] * 2 + place) * self.head_dim

    def head_rows(self, role: str) -> Tensor:
        """Which rows of one of `head_inputs` are each head's: (heads, k) int64, those of q, k and v in this order."""
        return torch.cat([self.rows(part) for part in SEPARATE if role in (part, *FUSED)], dim=1)

    def within(self, geometry: "Geometry") -> "Block":
        """The same block on the encoder's grid of tokens, unless it says its own."""
        if self.side is not None:
            return self
        return replace(self, side=geometry.tokens_side, prefix_tokens=geometry.prefix_tokens)


def block_of(
    module: nn.Module,
    index: int,
    name: str,
    paths: Mapping[str, str],
    attention: nn.Module,
    num_heads: int,
    window: int,
    *,
    side: int | None = None,
    prefix_tokens: int = 0,
    row_order: RowOrder = "parts",
    head_tables: tuple[str, ...] = (),
    mlp_entry: nn.Module | None = None,
    then: nn.Module | None = None,
) -> Block:
    """Show a module as a block.

    Args:
        module: The block itself.
        index, name, attention, num_heads, window, side, prefix_tokens, row_order, head_tables, mlp_entry, then: As in
            `Block`.
        paths: Role to the layer's place in the module.

    Raises:
        AttributeError: A layer is not there.
        SurgeryError: A layer is none that can be cut: see `require_plain`.
    """
    layers: dict[str, Any] = {role: module.get_submodule(path) for role, path in paths.items()}
    names = {role: f"{name}.{path}" for role, path in paths.items()}
    for role, layer in layers.items():
        require_plain(names[role], layer)
    head_dim = sum(layers[role].out_features for role in (FUSED if FUSED[0] in layers else SEPARATE)) // (3 * num_heads)
    rest = (side, prefix_tokens, row_order, head_tables, mlp_entry, then)
    return Block(index, name, layers, names, attention, num_heads, head_dim, window, *rest)


@dataclass(frozen=True)
class Geometry:
    """Sizes of the encoder as a whole; a `Block` says its own, which may differ from block to block.

    Attributes:
        image_size: Input side in pixels.
        patch_size: Patch side in pixels.
        embed_dim: Channels of a token where the first block reads it.
        out_channels: Channels that the neck hands to the mask decoder; 0 where there is no neck.
        prefix_tokens: Class and register tokens, which are beside those of the image.
        padded: Whether images keep their aspect and are padded, rather than stretched, to the input.
        beside_channels: Channels of an embedding after the neck's, which the mask decoder reads too.
    """

    image_size: int
    patch_size: int
    embed_dim: int
    out_channels: int
    # not shown, for hashes of models are made from what is
    prefix_tokens: int = field(default=0, repr=False)
    padded: bool = field(default=False, repr=False)
    beside_channels: int = field(default=0, repr=False)

    @property
    def frame(self) -> Frame:
        """How images lie in the input."""
        return Frame(self.image_size, self.padded)

    @property
    def tokens_side(self) -> int:
        """Tokens along one side of the image where the first block reads it."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """All tokens of an image there, prefix tokens included."""
        return self.tokens_side**2 + self.prefix_tokens


class EncoderFamily(Protocol):
    """What a model family implements to be pruned."""

    name: str

    def matches(self, model: nn.Module) -> bool:
        """Whether `model` is, or contains, an encoder of this family."""
        ...

    def encoder(self, model: nn.Module) -> nn.Module:
        """The image encoder itself."""
        ...

    def blocks(self, model: nn.Module) -> list[Block]:
        """The transformer blocks in order, with names relative to `model`."""
        ...

    def geometry(self, model: nn.Module) -> Geometry:
        """Sizes of the encoder."""
        ...

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        """Tell the block's attention how many heads are left; `head_tables` have been cut already."""
        ...

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        """What the encoder makes of images: (B, 3, S, S) to its features."""
        ...

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        """Masks of one box an image: (B, C, h, w) and (B, 4) in input pixels to (B, 1, 4 h, 4 w) logits.

        Raises:
            MedcorePruneError: The model has no mask decoder.
        """
        ...


class BuildingFamily(EncoderFamily, Protocol):
    """A family that builds its models itself, so that its name and its files are enough wherever a model is taken.

    A family without these methods leaves building to its own library; `load(path, into=model)` fills what that built.
    """

    kinds: Mapping[str, Mapping[str, Any]]
    """Names of models that are built without a file, each with its settings."""

    def build(self, settings: Mapping[str, Any]) -> nn.Module:
        """An unpruned model with untrained weights.

        Args:
            settings: Those of a kind, with another `image_size` where one is asked for, or what `settings` returned;
                a file may be damaged, so whatever is too large or does not fit is to be refused.
        """
        ...

    def settings(self, model: nn.Module) -> Mapping[str, Any]:
        """What `build` makes the unpruned model again from, as JSON values; the model may be pruned."""
        ...

    def load(self, state: Mapping[str, Tensor], image_size: int | None = None) -> nn.Module | None:
        """A model with these weights, or None where they are not of this family.

        Args:
            state: Parameter names to tensors, as a checkpoint has them.
            image_size: Another input side in pixels than the checkpoint's; a family may leave it unread.

        Raises:
            MedcorePruneError: They are of this family, and cannot be used.
        """
        ...


def no_decoder(model: nn.Module) -> MedcorePruneError:
    """The error of what wants masks from a model that is an encoder alone."""
    return MedcorePruneError(
        f"{type(model).__name__} is an encoder without a mask decoder: a loss of masks takes a whole Sam or SamModel"
    )
