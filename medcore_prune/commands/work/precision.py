"""`--device` and `--precision` of a command: checked before anything is read, and held for as long as it works."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..._support.devices import require_device
from ..._support.machines.ranks import launched
from ...models.precision import PRECISIONS, Precision, computing, default_precision, products_in, training_precision

Run = Callable[..., None]


def in_precision(*offered: Precision) -> Callable[[Run], Run]:
    """Return a decorator of what a command does, which gets as `precision` the one that it computes in.

    Args:
        offered: Those that make sense for it; all by default.
    """

    def decorate(run: Run) -> Run:
        @wraps(run)
        def call(*args: Any, device: str, precision: str | None = None, **given: Any) -> None:
            require_device(device)
            with computing(precision, device, offered or PRECISIONS) as used:
                run(*args, device=device, precision=used, **given)

        return call

    return decorate


def training_in_precision(run: Run) -> Run:
    """Decorate what a command that trains does; `precision` is that of its settings, bf16 where the hardware has it.

    All processes that `torchrun` started are known to each other within it.
    """

    @wraps(run)
    def call(*args: Any, device: str, precision: str | None = None, **given: Any) -> None:
        # before anything is put on a device: each process has its own
        with launched(device):
            require_device(device)
            with products_in(precision or default_precision(device), device):
                run(*args, device=device, precision=training_precision(precision, device), **given)

    return call
