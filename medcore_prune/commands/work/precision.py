"""`--device` and `--precision` of a command: checked before anything is read, and held for as long as it works."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

import click

from ..._support.devices import require_device
from ..._support.machines.executor import ray_needed
from ..._support.machines.launched import processes as launched_processes
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

    All processes that `torchrun` started, or that a Ray cluster does at `ray`, are known to each other within it.
    """

    @wraps(run)
    def call(
        *, device: str, precision: str | None = None, ray: str | None = None, processes: int | None = None, **given: Any
    ) -> None:
        work = partial(call, device=device, precision=precision, **given)
        # before anything is put on a device: each process has its own
        with _others(ray, processes, device, work), launched(device):
            require_device(device)
            with products_in(precision or default_precision(device), device):
                run(device=device, precision=training_precision(precision, device), **given)

    return call


def _others(
    address: str | None, count: int | None, device: str, work: Callable[[], None]
) -> AbstractContextManager[None]:
    """A block that processes on a Ray cluster share, where there are to be any."""
    if address is None and count is None:
        return nullcontext()
    if address is None or count is None:
        raise click.UsageError("--ray says where other processes train, --processes how many: give both")
    if launched_processes() > 1:
        raise click.UsageError("--ray starts processes, and so does torchrun: take one of them")
    if device != "cpu":
        raise click.UsageError(f"--ray computes on processors: leave it or --device {device} out, or take torchrun")
    with ray_needed():
        from ..._support.machines.ranks_on_ray import first_of
    return first_of(count, address, work)
