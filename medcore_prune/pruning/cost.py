"""Parameters and FLOPs of an image encoder, before and after a plan, under two named conventions."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from .._support.errors import BudgetError
from ..models.families import blocks_of, encoder_of, geometry_of
from ..models.family import Block, Geometry
from ..models.groups import Family, StructuredGroup, groups_of
from .plan import Plan

_RGB = 3  # channels of the input image
_NECK_KERNEL = 3 * 3  # SAM's neck: a 1 x 1 convolution, then a 3 x 3 one


@dataclass(frozen=True)
class BlockCost:
    """Size and cost of one block.

    Attributes:
        block: Index of the block.
        window: Side of its attention window in tokens; 0 means global.
        heads, neurons: Units it holds.
        params: Parameters, norms and relative positions included.
        flops: FLOPs for one image.
    """

    block: int
    window: int
    heads: int
    neurons: int
    params: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """Cost of an image encoder.

    Attributes:
        convention: What the FLOPs count: a name in `CONVENTIONS`.
        params: Parameters of the whole image encoder.
        flops: FLOPs for one image; a multiply-accumulate is two.
        per_block: The blocks' own share.
    """

    convention: str
    params: int
    flops: int
    per_block: tuple[BlockCost, ...] = field(repr=False)

    @property
    def params_m(self) -> float:
        """Millions of parameters."""
        return self.params / 1e6

    @property
    def flops_g(self) -> float:
        """Billions of FLOPs."""
        return self.flops / 1e9

    def params_removed(self, dense: "Cost") -> float:
        """Share of the parameters of `dense` that is gone, in [0, 1]."""
        return 1 - self.params / dense.params

    def flops_removed(self, dense: "Cost") -> float:
        """Share of the FLOPs of `dense` that is gone, in [0, 1].

        Raises:
            BudgetError: The two were counted under different conventions.
        """
        if self.convention != dense.convention:
            raise BudgetError(
                f"FLOPs counted as {self.convention!r} and as {dense.convention!r} do not compare: count both alike"
            )
        return 1 - self.flops / dense.flops


@dataclass(frozen=True)
class Convention:
    """What counts as a multiply-accumulate: of everything around the blocks, of a head, and of a neuron."""

    stem_macs: Callable[[Geometry], int]
    head_macs: Callable[[Block, Geometry], int]
    neuron_macs: Callable[[Block, Geometry], int]


def _patch_macs(geometry: Geometry) -> int:
    return geometry.tokens_side**2 * geometry.embed_dim * _RGB * geometry.patch_size**2


def _patch_and_neck_macs(geometry: Geometry) -> int:
    neck = geometry.out_channels * (geometry.embed_dim + _NECK_KERNEL * geometry.out_channels)
    return _patch_macs(geometry) + geometry.tokens_side**2 * neck


def _neuron_macs(block: Block, geometry: Geometry) -> int:
    return 2 * geometry.tokens * geometry.embed_dim


def _paper_head_macs(block: Block, geometry: Geometry) -> int:
    n = geometry.tokens
    context = block.window**2 or n
    return 4 * n * geometry.embed_dim * block.head_dim + 2 * n * context * block.head_dim


def _full_head_macs(block: Block, geometry: Geometry) -> int:
    side = block.window or geometry.tokens_side
    # windows that overhang the image are filled up with zeros, which are multiplied like all else
    n = (side * -(-geometry.tokens_side // side)) ** 2 if block.window else geometry.tokens
    context = side**2 if block.window else geometry.tokens
    # each token meets every row and every column offset of its window once
    relative = 2 * side if getattr(block.attention, "use_rel_pos", False) else 0
    return n * block.head_dim * (4 * geometry.embed_dim + 2 * context + relative)


CONVENTIONS: dict[str, Convention] = {
    # METHOD section 7: no window padding, no relative positions, no neck
    "paper": Convention(_patch_macs, _paper_head_macs, _neuron_macs),
    # every matrix product and convolution that runs
    "full": Convention(_patch_and_neck_macs, _full_head_macs, _neuron_macs),
}


def _convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        raise BudgetError(f"unknown FLOPs convention {name!r}: expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


def count(model: nn.Module, plan: Plan | None = None, convention: str = "paper") -> Cost:
    """Count the parameters and FLOPs of `model`'s image encoder, as it is or after a plan.

    With `paper` (METHOD section 7), N tokens of width D, and ctx the tokens that one attends to (N, or a window's):
    patch embedding N D 3 patch^2; a head 4 N D head_dim + 2 N ctx head_dim; a neuron 2 N D multiply-accumulates, two
    FLOPs each. `full` counts every matrix product and convolution: windows with their padding, relative positions
    and the neck besides.

    Args:
        model: A model of a known family, on any device, `meta` included.
        plan: What would go; the model is not touched.
        convention: A name in `CONVENTIONS`.

    Returns:
        The totals and the blocks' shares.

    Raises:
        BudgetError: Unknown convention.
        SurgeryError: The plan is for other sizes.
    """
    rule, geometry = _convention(convention), geometry_of(model)
    if plan is not None:
        plan.check_fits(model)
    unit_params = {(group.block, group.family): group.cost_params for group in groups_of(model)}
    per_block = []
    gone = 0
    for block in blocks_of(model):
        heads, neurons = block.num_heads, block.neurons
        if plan is not None:
            heads, neurons = (len(plan.blocks[block.index].keep(family)) for family in ("heads", "neurons"))
        cut = (block.num_heads - heads) * unit_params[block.index, "heads"]
        cut += (block.neurons - neurons) * unit_params[block.index, "neurons"]
        params = sum(parameter.numel() for parameter in model.get_submodule(block.name).parameters()) - cut
        macs = heads * rule.head_macs(block, geometry) + neurons * rule.neuron_macs(block, geometry)
        per_block.append(BlockCost(block.index, block.window, heads, neurons, params, 2 * macs))
        gone += cut
    total = sum(parameter.numel() for parameter in encoder_of(model).parameters()) - gone
    flops = 2 * rule.stem_macs(geometry) + sum(block.flops for block in per_block)
    return Cost(convention, total, flops, tuple(per_block))


def _unit_params(model: nn.Module, groups: list[StructuredGroup]) -> dict[tuple[int, Family], int]:
    return {(group.block, group.family): group.cost_params for group in groups}


def _unit_flops(model: nn.Module, groups: list[StructuredGroup]) -> dict[tuple[int, Family], int]:
    geometry, blocks, rule = geometry_of(model), blocks_of(model), CONVENTIONS["paper"]
    macs = {"heads": rule.head_macs, "neurons": rule.neuron_macs}
    neurons_per_unit = {"heads": lambda group: 1, "neurons": lambda group: group.unit_size}
    return {
        (g.block, g.family): 2 * macs[g.family](blocks[g.block], geometry) * neurons_per_unit[g.family](g)
        for g in groups
    }


UNIT_COSTS = {"params": _unit_params, "flops": _unit_flops}


def unit_costs(model: nn.Module, groups: list[StructuredGroup], cost: str = "params") -> dict[tuple[int, Family], int]:
    """Return c_g of Eq. 2 for one unit of every group: its parameters, or its FLOPs as the paper counts them.

    Args:
        model: The model that the groups belong to.
        groups: As `groups_of` lists them, with any MLP group size.
        cost: `params` or `flops`.

    Returns:
        (block, family) to the cost of one unit.

    Raises:
        BudgetError: Unknown cost.
    """
    if cost not in UNIT_COSTS:
        raise BudgetError(f"unknown cost {cost!r}: expected one of {', '.join(UNIT_COSTS)}")
    return UNIT_COSTS[cost](model, groups)
