"""Which model families there are, and whose a model is."""

from torch import nn

from .._support.errors import MedcorePruneError, RegistryError
from .family import Block, EncoderFamily, Geometry
from .segment_anything import SegmentAnythingFamily
from .timm import TimmFamily
from .transformers import TransformersSamFamily, TransformersVitFamily

FAMILIES: list[EncoderFamily] = [
    SegmentAnythingFamily(),
    TransformersSamFamily(),
    TransformersVitFamily(),
    TimmFamily(),
]


def register_family(family: EncoderFamily) -> None:
    """Make models of another family known: they can then be planned, pruned, counted and scored.

    Families are asked in the order of their registration, built-in ones first.

    Args:
        family: An object with everything that `EncoderFamily` lists; see docs/extending.md.

    Raises:
        RegistryError: Something is missing, or its name is taken by another family.
    """
    wanted = ("name", "matches", "encoder", "blocks", "geometry", "set_num_heads", "embed", "decode")
    if missing := [what for what in wanted if not hasattr(family, what)]:
        raise RegistryError(f"family {type(family).__name__} lacks {', '.join(missing)}")
    taken = next((known for known in FAMILIES if known.name == family.name), None)
    if taken is not None and type(taken) is not type(family):
        raise RegistryError(f"family name {family.name!r} is taken by {type(taken).__name__}: choose another")
    if taken is None:
        FAMILIES.append(family)


def family_of(model: nn.Module) -> EncoderFamily:
    """Return the family that knows `model`.

    Raises:
        MedcorePruneError: No family does; the message names those that exist, and a part that one knows.
    """
    for family in FAMILIES:
        if family.matches(model):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    inside = [name for name, part in _children(model) if any(family.matches(part) for family in FAMILIES)]
    hint = f"; its part .{inside[0]} does, give that" if inside else ""
    raise MedcorePruneError(f"{type(model).__name__} belongs to no known model family: expected one of {known}{hint}")


def _children(model: object) -> list[tuple[str, nn.Module]]:
    """Parts of a module with their names; none of what is no module."""
    return list(model.named_children()) if isinstance(model, nn.Module) else []


def blocks_of(model: nn.Module) -> list[Block]:
    """Return the transformer blocks of `model`'s image encoder, shallowest first."""
    family = family_of(model)
    blocks = family.blocks(model)
    try:
        geometry = family.geometry(model)
    except MedcorePruneError:
        # an image that is no square: the blocks can be cut all the same, and whoever asks for their grid is told
        return blocks
    return [block.within(geometry) for block in blocks]


def encoder_of(model: nn.Module) -> nn.Module:
    """Return the image encoder of `model`, which may be the encoder itself."""
    return family_of(model).encoder(model)


def geometry_of(model: nn.Module) -> Geometry:
    """Return the sizes of `model`'s image encoder."""
    return family_of(model).geometry(model)
