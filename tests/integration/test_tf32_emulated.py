"""TF32 emulated on the CPU, on the pocket pair: how far its rounding of operands moves masks and metrics.

An emulation: operands of matrix products and convolutions are rounded to ten bits of mantissa, to nearest, as tensor
cores take them; sums are the CPU's own. It says nothing of a GPU's time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import medcore_prune as mp

_BITS = 13  # float32 has 23 bits of mantissa, TF32 has 10
_ROUNDED: set[Callable[..., Any]] = {
    *(F.linear, F.conv2d, F.conv_transpose2d, F.scaled_dot_product_attention, torch.conv2d, torch.conv_transpose2d),
    *(torch.matmul, torch.bmm, torch.einsum, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm),
}


def to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to ten bits of mantissa, ties to even."""
    bits = values.contiguous().view(torch.int32)
    half = (1 << (_BITS - 1)) - 1
    return ((bits + half + ((bits >> _BITS) & 1)) & -(1 << _BITS)).view(torch.float32)


class EmulatedTF32(TorchFunctionMode):
    """Within the block products and convolutions see operands in TF32; biases and sums stay float32."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _ROUNDED:
            first = 3 if func is F.scaled_dot_product_attention else 2
            operands = [self._rounded(each) if place < first else each for place, each in enumerate(args)]
            args = (args[0], *map(self._rounded, args[1:])) if func is torch.einsum else tuple(operands)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _rounded(value: Any) -> Any:
        return to_tf32(value) if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value


def test_the_rounding_is_that_of_ten_bits() -> None:
    exact = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-12, -(1 + 2**-10 + 2**-13)])
    expected = torch.tensor([1.0, 1 + 2**-10, 1.0, 1 + 2**-9, 1.0, -(1 + 2**-10)])
    assert torch.equal(to_tf32(exact), expected)


def moved(count: int) -> pd.Series:
    """Means of metrics in emulated TF32 less those in float32."""
    model = mp.zoo.pocket("adapted")
    sets = {name: mp.data.phantoms.make(name, seed=0, count=count) for name in ("phantom_polyp_a", "phantom_polyp_b")}
    exact = mp.evaluate(model, sets, progress=False)
    with EmulatedTF32():
        rounded = mp.evaluate(model, sets, progress=False)
    return rounded[["dice", "bf1"]].mean() - exact[["dice", "bf1"]].mean()


def test_metrics_hardly_move() -> None:
    model, images = mp.zoo.pocket("adapted"), torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = model.image_encoder(images)
        with EmulatedTF32():
            far = (model.image_encoder(images) - exact).norm() / exact.norm()
    assert 1e-5 < far < 1e-2
    assert (moved(4).abs() < 0.005).all()
