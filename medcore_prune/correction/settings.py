"""How a correction fits layers, and what it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._support.errors import StatisticsError, require_known
from .token_weights import WEIGHTINGS


@dataclass(frozen=True)
class Target:
    """What a layer is fitted to.

    Attributes:
        reads: What is read of the same layer in the dense network, a field of `Added`; nothing else of it is kept.
        of: That and the cut network's stream before the layer, (B, h, w, D) each, to T.
    """

    reads: Literal["output", "after"]
    of: Callable[[Tensor, Tensor], Tensor]


TARGETS: dict[str, Target] = {
    "stream": Target("after", lambda after, before: after.double() - before.double()),
    "layer": Target("output", lambda output, before: output),
}
"""By name.

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
        fit_steps: Steps of Adam on all weights of each block behind its least squares, at least 0, see `block_fit`.
        fit_learning_rate: Of the first of them, above 0; it falls to 0 along a cosine.

    Raises:
        StatisticsError: A value that cannot be.
    """

    ridge: float = 1e-3
    weighting: str = "gradient_norm"
    target: str = "stream"
    bias: bool = False
    values: bool = True
    fit_steps: int = 0
    fit_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        require_known("weighting", self.weighting, WEIGHTINGS, StatisticsError)
        require_known("target", self.target, TARGETS, StatisticsError)
        if not 0 <= self.ridge < float("inf"):
            raise StatisticsError(f"ridge is {self.ridge}: expected a finite number, at least 0")
        if self.values and not self.ridge:
            raise StatisticsError("ridge is 0: values are fitted with a ridge above 0 only")
        if self.fit_steps < 0:
            raise StatisticsError(f"fit_steps is {self.fit_steps}: expected at least 0")
        if not 0 < self.fit_learning_rate < float("inf"):
            raise StatisticsError(f"fit_learning_rate is {self.fit_learning_rate}: expected a finite number above 0")


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
class BlockCorrection:
    """One block whose weights were fitted together, behind its least squares.

    Errors are `sqrt(mean |F(X) - T|^2 / mean |T|^2)` of the stream behind the block, with the weights of tokens.

    Attributes:
        name: Qualified name in the pruned model.
        step: After which step the weights were taken; 0 are those of the least squares.
        fitted_before, fitted_after: Error on the images of the steps.
        held_out_before, held_out_after: Error on the images that were held out of the steps, which chose the step. The
            least squares have seen them too.
    """

    name: str
    step: int
    fitted_before: float
    fitted_after: float
    held_out_before: float
    held_out_after: float


@dataclass(frozen=True)
class CorrectionReport:
    """What a correction did.

    Attributes:
        settings: How layers were fitted.
        layers: One entry a fitted layer, in order.
        images: Data set name to the number of images that were read.
        stream_error: Relative distance of the last block's output from the dense network's on these images, after.
        state_bytes: Size of the residual streams that were carried, with those of models corrected at the same time.
        seconds: Of the whole correction; of several at the same time, each one's share.
        blocks: One entry a block, in order, where whole blocks were fitted.
    """

    settings: CorrectionSettings
    layers: tuple[LayerCorrection, ...] = field(repr=False)
    images: Mapping[str, int] = field(default_factory=dict)
    stream_error: float = 0.0
    state_bytes: int = 0
    seconds: float = 0.0
    blocks: tuple[BlockCorrection, ...] = field(default=(), repr=False)
