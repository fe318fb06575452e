"""In which numbers matrix products and convolutions are computed: one word, and all that torch is told by it.

- `fp32`: float32 throughout, TF32 switched off; what everything else is held against.
- `tf32`: operands rounded to 10 bits of mantissa, sums in float32, on NVIDIA GPUs since Ampere.
- `bf16`: the network under `torch.autocast` in bfloat16; what lies outside of it as `fp32`.

torch has these switches per library and for the whole process, and by default its convolutions run in TF32 while its
matrix products do not. Here they are set alike, and put back when the block ends, by an error too. Another thread that
computes meanwhile is under the same switches.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from .._support.errors import MedcorePruneError

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")

_AMPERE = (8, 0)
_Place: TypeAlias = str | torch.device


def default_precision(device: _Place) -> Precision:
    """What commands compute in where nothing is said: `tf32` on a GPU that has it, else `fp32`."""
    return "tf32" if _has_tf32(torch.device(device)) else "fp32"


def training_precision(precision: str | None, device: _Place) -> Precision:
    """What a training runs its networks in: `bf16` where nothing is said and the hardware has it."""
    if precision is not None:
        return checked_precision(precision, device)
    return "bf16" if has_bfloat16(torch.device(device)) else current_precision(device)


def current_precision(device: _Place) -> Precision:
    """What torch's switches say of matrix products on a device; an autocast block is not looked at."""
    if not _has_tf32(torch.device(device)):
        return "fp32"
    # "none" is what the setting above it says, and at the top no TF32
    told = next((each for each in (_MATMUL[0].fp32_precision, _ALL.fp32_precision) if each != "none"), "ieee")
    return "tf32" if told == "tf32" else "fp32"


def checked_precision(precision: str, device: _Place, offered: Sequence[Precision] = PRECISIONS) -> Precision:
    """Return a precision that a device has and whoever asks offers; any other is refused.

    Raises:
        MedcorePruneError: An unknown word, one that is not offered here, or TF32 where there is none.
    """
    if precision not in PRECISIONS:
        raise MedcorePruneError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision not in offered:
        raise MedcorePruneError(
            f"precision {precision}: not here, where networks are measured and refitted and its rounding would be "
            f"taken for a difference between models; expected {' or '.join(offered)}"
        )
    if precision == "tf32" and not _has_tf32(torch.device(device)):
        raise MedcorePruneError(
            f"precision tf32: {device} has none (NVIDIA GPUs have it since Ampere); expected fp32 there"
        )
    return precision


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware there, rather than emulated slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE


@contextmanager
def computing(
    precision: str | None = None, device: _Place = "cpu", offered: Sequence[Precision] = PRECISIONS
) -> Iterator[Precision]:
    """Compute in a precision for as long as the block lasts; torch's switches are then as they were.

    ::

        with mp.computing("tf32", "cuda"):
            table = mp.evaluate(model, data)

    What trains takes its precision from its settings. Metrics, losses, the products of a calibration and the least
    squares of a correction are float32 or float64 in any.

    Args:
        precision: `"fp32"`, `"tf32"` or `"bf16"`; None for the default of the device, tf32 on GPUs that have it.
        device: Where the models are.
        offered: Those that make sense in the block.

    Yields:
        The precision.

    Raises:
        MedcorePruneError: An unknown word, one that is not offered here, or TF32 where there is none.
    """
    used = default_precision(device) if precision is None else precision
    with products_in(used, device, offered) as found, autocast(found, device):
        yield found


@contextmanager
def products_in(
    precision: str | None, device: _Place, offered: Sequence[Precision] = PRECISIONS
) -> Iterator[Precision]:
    """Set torch's switches for a block, without autocast: `bf16` is said by whoever runs the network, by `autocast`.

    None keeps what is set for matrix products, and sets convolutions alike.
    """
    used = current_precision(device) if precision is None else checked_precision(precision, device, offered)
    block = _Block("tf32" if used == "tf32" else "ieee")
    _BLOCKS.enter(block)
    try:
        yield used
    finally:
        _BLOCKS.leave(block)


def autocast(precision: Precision, device: _Place) -> torch.autocast:
    """The autocast block of a precision; one that is off for all but bfloat16."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def exactly() -> Iterator[None]:
    """Products in the numbers that tensors have, whatever precision the block stands in."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(products_in("fp32", "cpu"))
        yield


_ALL: Any = torch.backends
_MATMUL: tuple[Any, ...] = (_ALL.cuda.matmul, _ALL.mkldnn.matmul)
_CONV: tuple[Any, ...] = (
    _ALL.cudnn.conv,
    _ALL.cudnn.rnn,
    _ALL.mkldnn.conv,
    _ALL.mkldnn.rnn,
)
_ON_GPU = (_ALL.cuda.matmul, _ALL.cudnn.conv, _ALL.cudnn.rnn)
_Switches: TypeAlias = tuple[str | None, bool | None, list[str]]


def _switches() -> _Switches:
    """Every switch as it is: torch's two old names, None where it refuses to read them since both kinds were used, and
    its new ones."""
    matmul, convolutions = _read(torch.get_float32_matmul_precision), _read(lambda: _ALL.cudnn.allow_tf32)
    return matmul, convolutions, [each.fp32_precision for each in (*_MATMUL, *_CONV)]


def _read(switch: Callable[[], Any]) -> Any:
    try:
        return switch()
    except RuntimeError:
        return None


def _set(kind: str) -> None:
    new = [kind if part in _ON_GPU else "ieee" for part in (*_MATMUL, *_CONV)]
    _put_back(("high" if kind == "tf32" else "highest", kind == "tf32", new))


def _put_back(switches: _Switches) -> None:
    matmul, convolutions, new = switches
    # the old ones write the new ones too, which therefore come last
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if convolutions is not None:
        _ALL.cudnn.allow_tf32 = convolutions
    for part, value in zip((*_MATMUL, *_CONV), new, strict=True):
        part.fp32_precision = value


@dataclass(eq=False)
class _Block:
    """An open block, and what it sets."""

    kind: str


class _Blocks:
    """The blocks that are open. Those of several threads overlap: whoever comes first finds the switches as they were
    before all, and whoever leaves last puts them back."""

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), list[_Block]()
        self._before: _Switches = None, None, []

    def enter(self, block: _Block) -> None:
        with self._lock:
            if not self._open:
                self._before = _switches()
            self._open.append(block)
            _set(block.kind)

    def leave(self, block: _Block) -> None:
        with self._lock:
            self._open = [each for each in self._open if each is not block]
            if self._open:
                _set(self._open[-1].kind)
            else:
                _put_back(self._before)


_BLOCKS = _Blocks()
