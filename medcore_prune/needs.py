"""What a criterion may ask calibration to collect."""

from enum import StrEnum
from typing import Literal

Role = Literal["adapted", "reference"]


class Need(StrEnum):
    """One kind of statistics; a criterion lists those that it reads.

    Attributes:
        FISHER: Diagonal Fisher of the adapted model, F_M of Eq. 10.
        REFERENCE_FISHER: Diagonal Fisher of the reference on the same samples, F_S of Eq. 11.
        REFERENCE_WEIGHTS: The reference's prunable weights, theta_S of Eq. 12.
        MEAN_GRADIENT: Gradient of the mean loss of the adapted model, which first-order Taylor scores read.
        DIRECTIONAL_ZERO: Mean squared slope along the removal of each unit; a few numbers a unit.
        DIRECTIONAL_RESET: Mean squared slope along each unit's way back to the reference; likewise.
        GRAM: Gram matrix of the inputs of `proj` and `lin2`.
        WEIGHTED_GRAM: The same with tokens weighed by the squared gradient of the layer's output.
    """

    FISHER = "fisher"
    REFERENCE_FISHER = "reference_fisher"
    REFERENCE_WEIGHTS = "reference_weights"
    MEAN_GRADIENT = "mean_gradient"
    DIRECTIONAL_ZERO = "directional_zero"
    DIRECTIONAL_RESET = "directional_reset"
    GRAM = "gram"
    WEIGHTED_GRAM = "weighted_gram"

    @property
    def needs_reference(self) -> bool:
        """Whether collecting it takes a reference model."""
        return self in (Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS, Need.DIRECTIONAL_RESET)

    @property
    def kind(self) -> str:
        """Name of the collector whose sums it is; `weights` for a copy of the weights, which nothing sums."""
        return _COLLECTED[self][0]

    @property
    def role(self) -> Role:
        """The model that it is collected of."""
        return _COLLECTED[self][1]


_COLLECTED: dict[Need, tuple[str, Role]] = {
    Need.FISHER: ("fisher", "adapted"),
    Need.REFERENCE_FISHER: ("fisher", "reference"),
    Need.REFERENCE_WEIGHTS: ("weights", "reference"),
    Need.MEAN_GRADIENT: ("gradient", "adapted"),
    Need.DIRECTIONAL_ZERO: ("directional_zero", "adapted"),
    Need.DIRECTIONAL_RESET: ("directional_reset", "adapted"),
    Need.GRAM: ("gram", "adapted"),
    Need.WEIGHTED_GRAM: ("weighted_gram", "adapted"),
}
