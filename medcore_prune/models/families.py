"""Which model families there are, whose a model is, and models built by a kind's name."""

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import torch
from torch import nn

from .._support.errors import MedcorePruneError, RegistryError
from .._support.generators import float_by_default, seeded
from .._support.registry import Names, Registry, failures_named, unknown_name
from .calls.call import undisturbed
from .family import Block, BuildingFamily, EncoderFamily, Geometry

F = TypeVar("F", bound=EncoderFamily | type[EncoderFamily])

_WANTED = ("name", "matches", "encoder", "blocks", "geometry", "set_num_heads", "embed", "decode")
_BUILDING = ("kinds", "build", "settings", "load")


def _prepared(name: str, declared: Any) -> EncoderFamily:
    family: EncoderFamily = declared() if isinstance(declared, type) else declared
    if missing := [what for what in _WANTED if not hasattr(family, what)]:
        raise RegistryError(f"family {type(family).__name__} lacks {', '.join(missing)}")
    if hasattr(family, "build") and (missing := [what for what in _BUILDING if not hasattr(family, what)]):
        raise RegistryError(f"family {name} builds its models, but lacks {', '.join(missing)}")
    if family.name != name:
        raise RegistryError(f"the name of family {type(family).__name__} is {family.name!r}: register it as that")
    return family


FAMILIES: Registry[EncoderFamily] = Registry(
    "family",
    "medcore_prune.models",
    "medcore_prune.families",
    _prepared,
    Names(r"[A-Za-z][A-Za-z0-9_ .-]*", "letters, digits, spaces and ._-, a letter first"),
)


def register_family(family: F) -> F:
    """Make models of another family known, by call or as a decorator of its class: see docs/extending.md.

    They can then be planned, pruned, counted and scored; with the methods of `BuildingFamily` they are also built by
    name and read from files. Families are asked in the order of their registration, built-in ones first.

    Args:
        family: An object, or a class that is made one without arguments, with everything that `EncoderFamily` lists.

    Returns:
        The same.

    Raises:
        RegistryError: Something is missing, or its name is taken by another family.
    """
    kind = family if isinstance(family, type) else type(family)
    name = getattr(family, "name", None)
    if name is None:
        _prepared("", family)
    try:
        return FAMILIES.register(str(name))(family)
    except RegistryError:
        if name in FAMILIES and type(FAMILIES.get(str(name))) is kind:
            return family
        raise


def family_of(model: nn.Module) -> EncoderFamily:
    """Return the family that knows `model`; where none does, the error names those that exist."""
    families = FAMILIES.values()
    for family in families:
        if family.matches(model):
            return family
    known = ", ".join(family.name for family in families)
    inside = [name for name, part in _children(model) if any(family.matches(part) for family in families)]
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


def can_build(family: EncoderFamily) -> TypeGuard[BuildingFamily]:
    """Whether a family builds its models itself, rather than leave that to its own library."""
    return all(hasattr(family, what) for what in _BUILDING)


def building_families() -> list[BuildingFamily]:
    """Return the families that build their models themselves, built-in ones first."""
    return [family for family in FAMILIES.values() if can_build(family)]


def kinds() -> list[str]:
    """Return the names of all models that can be built by name."""
    return [kind for family in building_families() for kind in family.kinds]


def family_of_kind(kind: str) -> BuildingFamily:
    """Return the family that builds models of a kind."""
    for family in building_families():
        if kind in family.kinds:
            return family
    raise MedcorePruneError(unknown_name("model", kind, kinds()))


def build_model(
    kind: str, device: str | torch.device = "cpu", image_size: int | None = None, seed: int = 0
) -> nn.Module:
    """Build an unpruned model with untrained weights, in evaluation mode.

    Its parameters live on `device`: `"meta"` takes no memory and is enough for plans and costs. `image_size` is another
    input side in pixels; the seed is that of the weights, and the global generator is left as it was.
    """
    family = family_of_kind(kind)
    settings = dict(family.kinds[kind]) | ({} if image_size is None else {"image_size": image_size})
    with failures_named(f"family {family.name}", MedcorePruneError):
        model = untrained(lambda: family.build(settings), device, seed)
    require_image_size(model, image_size, kind)
    return model


def require_image_size(model: nn.Module, image_size: int | None, what: object) -> None:
    """Refuse a model that is of another image size than was asked for; the message begins with what it is called."""
    size = geometry_of(model).image_size
    if image_size not in (None, size):
        raise MedcorePruneError(f"{what} is for {size} px and not for {image_size}: leave the image size out")


def untrained(make: Callable[[], nn.Module], device: str | torch.device, seed: int) -> nn.Module:
    """Make a model in evaluation mode with seeded weights, or on the meta device without any."""
    with undisturbed():
        return _made(make, device, seed)


def _made(make: Callable[[], nn.Module], device: str | torch.device, seed: int) -> nn.Module:
    if torch.device(device).type == "meta":
        with torch.device("meta"), float_by_default():
            return make().eval()
    with seeded(seed), float_by_default():
        model = make()
    return model.to(device).eval()
