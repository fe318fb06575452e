"""Parameters and FLOPs of an image encoder, before and after a plan, under two named conventions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from .._support.errors import BudgetError, require_known
from ..models.families import blocks_of, encoder_of
from ..models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ..models.macs import CONVENTIONS, convention_named, fixed_macs
from .budget import Key
from .plan import Plan, require_fits
from .times import BlockTimes


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
        ms: Milliseconds of an image on this machine, where block times were given.
    """

    convention: str
    params: int
    flops: int
    per_block: tuple[BlockCost, ...] = field(repr=False)
    ms: float | None = None

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

    def latency_removed(self, dense: "Cost") -> float:
        """Share of the milliseconds of `dense` that is gone.

        Raises:
            BudgetError: No block times were given for one of the two.
        """
        if self.ms is None or dense.ms is None:
            raise BudgetError("latency is known where block times were measured: hand them to count")
        return 1 - self.ms / dense.ms


def count(
    model: nn.Module, plan: Plan | None = None, convention: str = "paper", times: BlockTimes | None = None
) -> Cost:
    """Count the parameters and FLOPs of `model`'s image encoder, as it is or after a plan.

    With `paper` (METHOD section 7), N tokens of width D, and ctx the tokens that one attends to (N, or a window's):
    patch embedding N D 3 patch^2; a head 4 N D head_dim + 2 N ctx head_dim; a neuron 2 N D multiply-accumulates, two
    FLOPs each. `full` counts every matrix product and convolution: windows with their padding, relative positions
    and the neck besides.

    Args:
        model: A model of a known family, on any device, `meta` included.
        plan: What would go; the model is not touched.
        convention: A name in `CONVENTIONS`.
        times: From `block_times` of this model, for milliseconds too.

    Returns:
        The totals and the blocks' shares.

    Raises:
        BudgetError: Unknown convention.
        SurgeryError: The plan is for other sizes.
    """
    rule, blocks = convention_named(convention), blocks_of(model)
    around = 2 * fixed_macs(model, rule)
    if plan is not None:
        require_fits(plan, model)
    unit_params = unit_costs(model, groups_of(model))
    per_block = []
    gone = 0
    for block in blocks:
        heads, neurons = block.num_heads, block.neurons
        if plan is not None:
            heads, neurons = (len(plan.blocks[block.index].keep(family)) for family in ("heads", "neurons"))
        cut = (block.num_heads - heads) * unit_params[block.index, "heads"]
        cut += (block.neurons - neurons) * unit_params[block.index, "neurons"]
        params = sum(parameter.numel() for parameter in model.get_submodule(block.name).parameters()) - cut
        flops = 2 * rule.block_macs(block, heads, neurons)
        per_block.append(BlockCost(block.index, block.window, heads, neurons, params, flops))
        gone += cut
    total = sum(parameter.numel() for parameter in encoder_of(model).parameters()) - gone
    ms = None if times is None else times.encoder_ms(_units(per_block))
    return Cost(convention, total, around + sum(block.flops for block in per_block), tuple(per_block), ms)


def _units(blocks: Sequence[BlockCost]) -> dict[Key, int]:
    return {(each.block, family): getattr(each, family) for each in blocks for family in FAMILY_NAMES}


UNIT_COSTS = ("params", "flops")


def unit_costs(model: nn.Module, groups: list[StructuredGroup], cost: str = "params") -> dict[tuple[int, Family], int]:
    """Return c_g of Eq. 2 for one unit of every group: its parameters, or its FLOPs as the paper counts them.

    Groups are as `groups_of` lists them, with any MLP group size; `cost` is `params` or `flops`.
    """
    require_known("cost", cost, UNIT_COSTS, BudgetError)
    if cost == "params":
        return {(group.block, group.family): group.cost_params for group in groups}
    blocks, rule = blocks_of(model), CONVENTIONS["paper"]
    found: dict[tuple[int, Family], int] = {}
    for group in groups:
        block = blocks[group.block]
        macs = rule.head_macs(block) if group.family == "heads" else group.unit_size * rule.neuron_macs(block)
        found[group.block, group.family] = 2 * macs
    return found
