"""A linear layer fitted by least squares from sums over tokens: weighted, with a ridge towards the weights it had.

    (X' D X + R) W = X' D T + R W_old,   R = ridge * mean diagonal of X' D X

X are the layer's inputs, T what it should give, D the weights of the tokens. X' D X, X' D T and T' D T are all that is
kept, in float64, so any number of images goes through in the memory of one layer (METHOD section 12). Where the inputs
are zero on every token R is the ridge itself, and the weights stay as they were.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError


@dataclass(frozen=True)
class Solution:
    """What least squares found for one layer: weight (out, in) and bias (out,), where that was asked for, in float64.

    Residuals are sqrt(sum D (T - X W)^2 / sum D T^2) with the old and the new weights, at least 0; a bias that is not
    fitted counts as part of X W, and T is then taken without it.
    """

    weight: Tensor
    bias: Tensor | None
    residual_before: float
    residual_after: float


class NormalEquations:
    """The sums of one layer, in float64, whose weights are read again by `solve` and never written.

    `inputs_inputs` is X' D X, (in, in), and `inputs_targets` X' D T, (in, out), both with a last row (and column) for
    the bias where that is fitted too; `targets_targets` the trace of T' D T.
    """

    def __init__(self, layer: nn.Linear, *, bias: bool = False) -> None:
        self._layer, self._bias = layer, bias
        inputs, device = layer.in_features + bias, layer.weight.device
        self.inputs_inputs = torch.zeros((inputs, inputs), dtype=torch.float64, device=device)
        self.inputs_targets = torch.zeros((inputs, layer.out_features), dtype=torch.float64, device=device)
        self.targets_targets = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, inputs: Tensor, targets: Tensor, weights: Tensor | None = None, share: float = 1.0) -> None:
        """Add tokens: X (..., in), T (..., out) with the bias, weights (...) of at least 0, and a factor for all of
        them.
        """
        x, t = inputs.double().flatten(0, -2), targets.double().flatten(0, -2)
        if self._bias:
            x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        elif self._layer.bias is not None:
            t = t - self._layer.bias.double()
        weighted = x * share if weights is None else x * (share * weights.double().reshape(-1, 1))
        scale = share if weights is None else share * weights.double().reshape(-1, 1)
        self.inputs_inputs += weighted.T @ x
        self.inputs_targets += weighted.T @ t
        self.targets_targets += (t.square() * scale).sum()

    def keeping(self, inputs: Tensor) -> "NormalEquations":
        """Return the sums of the layer that is left when only some of its inputs, by index, stay."""
        old, places = self._layer, inputs
        # without initial weights, which would be drawn from the generator that all share
        layer = nn.utils.skip_init(
            nn.Linear,
            len(inputs),
            old.out_features,
            old.bias is not None,
            device=old.weight.device,
            dtype=old.weight.dtype,
        ).requires_grad_(False)
        layer.weight.copy_(old.weight.detach()[:, inputs])
        if old.bias is not None:
            layer.bias.copy_(old.bias.detach())
        if self._bias:
            places = torch.cat([inputs, inputs.new_tensor([old.in_features])])
        small = copy.copy(self)
        small._layer = layer
        small.inputs_inputs = self.inputs_inputs[places][:, places]
        small.inputs_targets = self.inputs_targets[places]
        return small

    def check(self, name: str) -> None:
        """Refuse sums that are not finite, naming the layer."""
        sums = (self.inputs_inputs, self.inputs_targets, self.targets_targets)
        if not bool(torch.stack([torch.isfinite(value).all() for value in sums]).all()):
            raise StatisticsError(
                f"{name}: inputs or targets are not finite on some image, so no weights can be fitted: check both "
                "models and the images with `evaluate` first"
            )

    def penalty(self, ridge: float) -> float:
        """R: `ridge` times the mean diagonal of X' D X without the bias, or `ridge` itself where that is 0."""
        mean = float(self.inputs_inputs.diagonal()[: self._layer.in_features].mean())
        # inputs that are zero on every token: with any positive number the old weights stay
        return ridge * (mean or 1.0)

    @torch.no_grad()
    def fitted(self, ridge: float, name: str = "the layer") -> Tensor:
        """Solve for the weights, (in, out) with the bias where it is fitted, with a ridge as `penalty` reads it.

        Equations without a single solution are refused. The bias is held to no old value: shifting it harms nothing.
        """
        self.check(name)
        old, size = self._old(), self._layer.in_features
        penalty = torch.zeros(len(old), dtype=torch.float64, device=old.device)
        penalty[:size] = self.penalty(ridge)
        factor, failed = torch.linalg.cholesky_ex(self.inputs_inputs + penalty.diag())
        if int(failed):
            raise StatisticsError(
                f"{name}: its inputs do not determine {len(old)} weights an output: expected more images or a larger "
                f"ridge than {ridge:g}"
            )
        return torch.cholesky_solve(self.inputs_targets + penalty[:, None] * old, factor)

    @torch.no_grad()
    def solve(self, ridge: float, name: str = "the layer") -> Solution:
        """Solve as `fitted` does, and say how much is left."""
        new, size = self.fitted(ridge, name), self._layer.in_features
        return Solution(
            weight=new[:size].T,
            bias=new[size] if self._bias else None,
            residual_before=self.residual(self._old()),
            residual_after=self.residual(new),
        )

    def _old(self) -> Tensor:
        weight = self._layer.weight.detach().double().T
        return torch.cat([weight, self._layer.bias.detach().double()[None]]) if self._bias else weight

    def residual(self, weights: Tensor) -> float:
        """Return sqrt(sum D (T - X W)^2 / sum D T^2) for other weights, (in, out) with the bias where it is fitted."""
        left = (
            self.targets_targets
            - 2 * (weights * self.inputs_targets).sum()
            + (weights * (self.inputs_inputs @ weights)).sum()
        )
        # what rounding leaves of a perfect fit can be below zero
        return float((left.clamp(min=0.0) / self.targets_targets.clamp(min=1e-300)).sqrt())
