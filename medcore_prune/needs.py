"""What a criterion may ask calibration to collect."""

from enum import StrEnum


class Need(StrEnum):
    """One kind of statistics; a criterion lists those that it reads.

    Attributes:
        FISHER: Diagonal Fisher of the adapted model, F_M of Eq. 10.
        REFERENCE_FISHER: Diagonal Fisher of the reference on the same samples, F_S of Eq. 11.
        REFERENCE_WEIGHTS: The reference's prunable weights, theta_S of Eq. 12.
        MEAN_GRADIENT: Gradient of the mean loss of the adapted model, which first-order Taylor scores read.
    """

    FISHER = "fisher"
    REFERENCE_FISHER = "reference_fisher"
    REFERENCE_WEIGHTS = "reference_weights"
    MEAN_GRADIENT = "mean_gradient"

    @property
    def needs_reference(self) -> bool:
        """Whether collecting it takes a reference model."""
        return self in (Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS)
