"""How a correction fits layers, and what it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .._support.errors import StatisticsError, require_known
from .streams import Added, Observed
from .token_weights import WEIGHTINGS

TARGETS: dict[str, Callable[[Added, Observed], Tensor]] = {
    "stream": lambda dense, cut: dense.after.double() - cut.before.double(),
    "layer": lambda dense, cut: dense.output,
}
"""Name to T, (B, h, w, D), from the same layer in the dense and in the cut network.

`stream` takes the cut network's residual stream to the dense one's, so that earlier errors are made good too; `layer`
is what the layer gives in the dense network.
"""


@dataclass(frozen=True)
class CorrectionSettings:
    """How layers are fitted.

    Attributes:
        ridge: r relative to the mean diagonal of X' X, at least 0.
        weighting: A name in `token_weights.WEIGHTINGS`.
        target: A name in `TARGETS`.
        bias: Whether the layers' biases are fitted too.
        values: Whether the values of a block's last heads are fitted together with `proj`, see `attention_values`.

    Raises:
        StatisticsError: A value that cannot be.
    """

    ridge: float = 1e-3
    weighting: str = "gradient_norm"
    target: str = "stream"
    bias: bool = False
    values: bool = True

    def __post_init__(self) -> None:
        require_known("weighting", self.weighting, WEIGHTINGS, StatisticsError)
        require_known("target", self.target, TARGETS, StatisticsError)
        if not 0 <= self.ridge < float("inf"):
            raise StatisticsError(f"ridge is {self.ridge}: expected a finite number, at least 0")
        if self.values and not self.ridge:
            raise StatisticsError("ridge is 0: values are fitted with a ridge above 0 only")


@dataclass(frozen=True)
class LayerCorrection:
    """One layer that was fitted.

    Attributes:
        name: Qualified name in the pruned model.
        residual_before, residual_after: `sqrt(mean |T - X W|^2 / mean |T|^2)` with the weights left by the cut and
            with the fitted ones; T is taken without the bias where that is not fitted.
        tokens: How many tokens of all images went into the sums.
    """

    name: str
    residual_before: float
    residual_after: float
    tokens: int


@dataclass(frozen=True)
class CorrectionReport:
    """What a correction did.

    Attributes:
        settings: How layers were fitted.
        layers: One entry a fitted layer, in order.
        images: Data set name to the number of images that were read.
        stream_error: Relative distance of the last block's output from the dense network's on these images, after.
        state_bytes: Size of the residual streams that were carried.
        seconds: Of the whole correction.
    """

    settings: CorrectionSettings
    layers: tuple[LayerCorrection, ...] = field(repr=False)
    images: Mapping[str, int] = field(default_factory=dict)
    stream_error: float = 0.0
    state_bytes: int = 0
    seconds: float = 0.0
