"""Statistics as criteria read them: means over the samples of some data sets, at one lambda_B, layer by layer.

The Fisher of Eq. 10 is rebuilt from three sums over samples, g0 being the gradient of the plain loss and g1 of the
band term (METHOD section 5):

    F = (sum g0^2 + lambda_B sum 2 g0 g1 + lambda_B^2 sum g1^2) / n
"""

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..models.groups import StructuredGroup
from .collector import Need, Role, layout_of, need_of
from .collectors.directional import Direction
from .storage import Part

Pair = tuple[Tensor, Tensor | None]
"""A layer's weight and bias, or two tensors shaped like them."""

_SQUARED = ("fisher", "directional_zero", "directional_reset")
"""Means of squares: three sums cancel to one, whose rounding may fall below zero."""
_WAS_CUT = "the model was cut since; calibrate it again"


def how_to_collect(needs: Sequence[Need]) -> str:
    """Say what is missing and how to collect it."""
    names = ", ".join(map(repr, needs))
    reference = ", with a reference model" if any(need.needs_reference for need in needs) else ""
    return (
        f"the statistics hold no {', '.join(map(str, needs))}: calibrate(..., needs={{{names}}}){reference} collects it"
    )


class View:
    """What was collected on one population, at one lambda_B, in float64; `Statistics.view` makes it.

    A tensor is read from its memory-mapped file when it is asked for, and not kept; what is of a layer or a group comes
    on its device, what is asked for by name alone on the CPU. Whatever is asked for raises
    `StatisticsError` where it was not collected, is damaged, not finite, or of another shape than the model's.

    Args:
        parts: Sums by kind, role and data set.
        shares: Data sets that are taken as one, and the share of each; they sum to 1.
        lambda_b: Weight of the boundary band, at least 0; 0 is the plain Dice + BCE loss.
    """

    def __init__(
        self, parts: Mapping[tuple[str, str, str], Sequence[Part]], shares: Mapping[str, float], lambda_b: float
    ) -> None:
        self._parts, self._shares, self._lambda_b = parts, shares, lambda_b

    def fisher(self, layer: nn.Linear, layer_name: str, which: Role = "adapted") -> Pair:
        """Diagonal Fisher of a layer's weight and bias (Eq. 10): F_M, or the reference's F_S."""
        return _fitting(self.layer("fisher", layer_name, which, layer.weight.device), layer, layer_name)

    def mean_gradient(self, layer: nn.Linear, layer_name: str) -> Pair:
        """Gradient of the mean loss for a layer's weight and bias."""
        return _fitting(self.layer("gradient", layer_name, device=layer.weight.device), layer, layer_name)

    def reference_weights(self, layer: nn.Linear, layer_name: str) -> Pair:
        """The reference's weight and bias of a layer, theta_S of Eq. 12."""
        return _fitting(self.layer("weights", layer_name, "reference", layer.weight.device), layer, layer_name)

    def directional(self, group: StructuredGroup, direction: Direction) -> Tensor:
        """Mean squared slope of each unit along its removal or reset: (n_units,), non-negative."""
        device = group.layer_out.weight.device
        found = self.mean(f"directional_{direction}", f"{group.name_out}.units", device=device)
        if len(found) == group.n_units:
            return found
        # squares of single neurons say nothing of neurons that go together: slopes are added up before they are squared
        together = group.family == "neurons" and group.unit_size > 1
        why = (
            f"directional statistics are of single neurons, not of {group.unit_size} together: use mlp_group_size 1, "
            "or a criterion by the diagonal Fisher"
        )
        raise StatisticsError(
            f"{group.n_units} {group.family} in block {group.block}, directional statistics of {len(found)}: "
            f"{why if together else _WAS_CUT}"
        )

    def gram(self, group: StructuredGroup, kind: str = "gram") -> Tensor:
        """Gram matrix of what `layer_out` reads, summed over the tokens of an image: (in, in).

        `"weighted_gram"` weighs each token by its squared gradient.
        """
        return self._of_inputs(kind, "gram", group)

    def input_squares(self, group: StructuredGroup) -> Tensor:
        """Squares of what `layer_out` reads, summed over the tokens of an image: (in,)."""
        return self._of_inputs("input_squares", "squares", group)

    def _of_inputs(self, kind: str, what: str, group: StructuredGroup) -> Tensor:
        found = self.mean(kind, f"{group.name_out}.{what}", device=group.layer_out.weight.device)
        if len(found) != group.layer_out.in_features:
            raise StatisticsError(
                f"{group.name_out} reads {group.layer_out.in_features} inputs, its statistics {len(found)}: {_WAS_CUT}"
            )
        return found

    def layer(
        self, kind: str, layer_name: str, role: Role = "adapted", device: torch.device | None = None
    ) -> tuple[Tensor, Tensor]:
        """Means that are shaped like a layer's weight and bias; zeros for the bias of a layer without one."""
        held = (name for data in self._read(kind) for part in self._find(kind, role, data) for name in part.names)
        if not any(name.endswith(f"/{layer_name}.bias") for name in held):
            weight = self.mean(kind, f"{layer_name}.weight", role, device)
            return weight, weight.new_zeros(len(weight))
        weight, bias = self._means(kind, [f"{layer_name}.weight", f"{layer_name}.bias"], role, device)
        return weight, bias

    def mean(self, kind: str, name: str, role: Role = "adapted", device: torch.device | None = None) -> Tensor:
        """Mean over the population's samples of any tensor that a collector sums, in its shape.

        It is computed on `device`, by default the CPU.
        """
        return self._means(kind, [name], role, device)[0]

    def _means(self, kind: str, names: Sequence[str], role: Role, device: torch.device | None) -> list[Tensor]:
        """Means of several tensors; `device` is waited for once, to see whether all of them are finite."""
        finite = dict[tuple[str, str], Tensor]()

        def of_dataset(name: str, dataset: str) -> Tensor:
            mean, finite[name, dataset] = self._of_dataset(kind, role, dataset, name, device)
            return mean.double()

        shares = self._read(kind).items()
        means = [reduce(torch.add, (share * of_dataset(name, data) for data, share in shares)) for name in names]
        for (name, data), is_finite in zip(finite, torch.stack(list(finite.values())).tolist(), strict=True):
            if not is_finite:
                raise StatisticsError(f"the {kind} of {name} on {data} is not finite: calibrate again")
        return means

    def _read(self, kind: str) -> Mapping[str, float]:
        """Data sets to read; a copy of the weights belongs to none."""
        return {"": 1.0} if kind == "weights" else self._shares

    def _of_dataset(
        self, kind: str, role: Role, dataset: str, name: str, device: torch.device | None
    ) -> tuple[Tensor, Tensor]:
        """Mean over one data set, and whether it is finite, (), both on the device.

        Its sums are added up in the order of its parts, each times its power of lambda_B.
        """
        parts = self._find(kind, role, dataset)
        powers = self._powers(parts[0])
        total: Tensor | None = None
        for part in parts:
            for each, power in powers.items():
                value = part.tensor(f"{each}/{name}").to(device)
                total = torch.zeros_like(value) if total is None else total
                total.add_(value, alpha=float(self._lambda_b) ** power)
        assert total is not None
        finite = torch.isfinite(total).all()
        count = sum(part.header.count for part in parts) if kind != "weights" else 1
        mean = total.div_(count).float()
        return mean.clamp_(min=0) if kind in _SQUARED else mean, finite

    def _find(self, kind: str, role: Role, dataset: str) -> Sequence[Part]:
        if parts := self._parts.get((kind, role, dataset)):
            return parts
        known = list(dict.fromkeys(name for other, _, name in self._parts if other != "weights"))
        if kind != "weights" and dataset not in known:
            raise StatisticsError(f"no statistics of data set {dataset!r}: expected one of {', '.join(known)}")
        need = need_of(kind, role)
        raise StatisticsError(how_to_collect([need]) if need else f"the statistics hold no {kind} of the {role} model")

    def _powers(self, part: Part) -> Mapping[str, int]:
        """Sums to read of a kind, and the power of lambda_B that each is multiplied by."""
        kind, lambda_b = part.header.kind, self._lambda_b
        if (layout := layout_of(kind)) is None:
            raise StatisticsError(f"no collector is called {kind!r}: load the plug-in that brings it")
        if not 0 <= lambda_b < math.inf:
            raise StatisticsError(f"lambda_b is {lambda_b!r}: expected a finite number of at least 0")
        if lambda_b and "band" not in part.header.losses and any(layout.powers.values()):
            raise StatisticsError(
                f"lambda_b {lambda_b:g} asked of statistics collected for lambda_b 0 alone: "
                "calibrate with losses=('plain', 'band')"
            )
        return {name: power for name, power in layout.powers.items() if lambda_b or not power}


def _fitting(values: tuple[Tensor, Tensor], layer: nn.Linear, layer_name: str) -> Pair:
    if values[0].shape != layer.weight.shape:
        raise StatisticsError(
            f"{layer_name} has shape {tuple(layer.weight.shape)}, its statistics {tuple(values[0].shape)}: {_WAS_CUT}"
        )
    return values
