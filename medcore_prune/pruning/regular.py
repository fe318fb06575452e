"""The same counts in every block, for what wants regular shapes: TensorRT, or a configuration of `transformers`."""

from torch import nn

from .._support.errors import BudgetError
from ..models.groups import FAMILY_NAMES, groups_of
from .budget import min_keep
from .level import Level


def regular_level(model: nn.Module, level: Level | str, multiple_of: int = 1) -> Level:
    """Return the nearest level that takes a whole number of heads and of neurons from each block, of all as many.

    With uniform quotas and no protected block, a plan of it leaves every block with the same shape::

        recipe = mp.get_baseline("magnitude").with_settings(quotas="uniform")
        plan = mp.plan(model, mp.regular_level(model, "h50_m70"), recipe, protect=0)

    Args:
        model: A model whose blocks have as many heads, and as many neurons, as each other.
        level: `h50_m70`, or a `Level`; shares are rounded to units of a block, half up.
        multiple_of: What the neurons that stay in a block are a multiple of; the nearest one, of two the smaller.

    Returns:
        The level; `h0_m69.986979` where 2150 of 3072 neurons go.

    Raises:
        BudgetError: Blocks differ, have fewer neurons than the multiple, or would keep less than they must.
    """
    asked = Level.parse(level)
    multiples = {"heads": 1, "neurons": multiple_of}
    return Level(*(_share(model, family, getattr(asked, family), multiples[family]) for family in FAMILY_NAMES))


def _share(model: nn.Module, family: str, share: float, multiple_of: int) -> float:
    groups = [group for group in groups_of(model) if group.family == family]
    sizes = sorted({group.n_units for group in groups})
    if len(sizes) > 1:
        raise BudgetError(
            f"blocks of this model have {', '.join(map(str, sizes))} {family}: the same count in every block can "
            "only be cut from equal blocks, so leave it to the plain budget"
        )
    (units,) = sizes
    gone, least = int(share * units + 0.5), min_keep(groups[0])
    if units - gone < least:
        raise BudgetError(
            f"{share:.4g} of {units} {family} in every block is {gone}, and {least} have to stay: ask for at "
            f"most {(units - least) / units:.4f}"
        )
    if not 1 <= multiple_of <= units:
        raise BudgetError(f"multiples of {multiple_of}: expected 1 to the {units} {family} that a block has")
    # the nearest, ceil(n / multiple - 1/2) in integers, of those that there are
    nearest = -((multiple_of - 2 * (units - gone)) // (2 * multiple_of))
    fewest, most = -(-least // multiple_of), units // multiple_of
    return (units - min(max(nearest, fewest), most) * multiple_of) / units
