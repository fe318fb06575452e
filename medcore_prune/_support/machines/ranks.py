"""Processes that train one model together, as `torchrun` starts them: who they are, and what they tell each other."""

import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..devices import require_device
from ..errors import MedcorePruneError
from .launched import processes
from .versions import versions

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""How long one that lives is waited for: the first looks at the validation images by itself."""
GO_ON = "give the same command again, which goes on from the last state"
"""What to do where a process is lost."""
_GONE = ("gloo", "NCCL", "Connection reset by peer", "Connection closed by peer", "Broken pipe")
"""What torch's errors say when another process ended in the middle of a talk; gloo has no kind of its own for it."""


class ProcessLostError(MedcorePruneError):
    """Another process of a training ended while this one waited for it."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model: the first alone writes, judges and speaks.

    Attributes:
        rank: Its place, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, judges and speaks."""
        return self.rank == 0

    def told(self, value: T) -> T:
        """Return what the first process gives; the others wait for it."""
        if self.count == 1:
            return value
        held: list[Any] = [value if self.first else None]
        dist.broadcast_object_list(held, src=0)
        told: T = held[0]
        return told

    def gathered(self, value: T) -> list[T]:
        """Return what each process gives, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def require_same(self, value: object, what: str) -> None:
        """Refuse processes that give another value than the first; what it is of, for the error."""
        first, *others = self.gathered(value)
        for rank, theirs in enumerate(others, 1):
            if theirs != first:
                raise MedcorePruneError(
                    f"process {rank} has {what} unlike process 0: expected the same files and versions, and machines "
                    "of one kind"
                )

    def joined(self, objective: nn.Module) -> nn.Module:
        """Return a module that computes the same and sums gradients over the processes, which start from the first's.

        A backward pass leaves in every process what one process would have that takes their parts in order. Parameters
        that no process uses keep no gradient.
        """
        if self.count == 1:
            return objective
        joined = DistributedDataParallel(objective, find_unused_parameters=True)
        joined.register_comm_hook(self.count, _summed_in_order)
        return joined

    def by_itself(self, objective: nn.Module) -> AbstractContextManager[None]:
        """A block in which a `joined` module sums nothing: gradients add up in this process, for a later pass."""
        if not isinstance(objective, DistributedDataParallel):
            return nullcontext()
        block: AbstractContextManager[None] = objective.no_sync()
        return block

    def share(self, model: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.count > 1:
            for value in model.state_dict().values():
                dist.broadcast(value.detach(), src=0)


def _summed_in_order(count: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients over processes, first to last; an `all_reduce` has an order of its own."""
    mine = bucket.buffer()
    found = [torch.empty_like(mine) for _ in range(count)]
    future = dist.all_gather(found, mine, async_op=True).get_future()
    summed: torch.futures.Future[Tensor] = future.then(lambda _: functools.reduce(Tensor.add_, found))
    return summed


_RANKS: ContextVar[Ranks | None] = ContextVar("_RANKS", default=None)


def ranks() -> Ranks:
    """Return the processes of the block that this call stands in; one alone outside of any."""
    return _RANKS.get() or Ranks()


@contextmanager
def launched(device: str) -> Iterator[None]:
    """Train with all processes that `torchrun` started, if it did, while the block lasts; only the first is heard.

    They talk by NCCL on `cuda`, where each takes the GPU of its place, and by gloo on `cpu`.

    Raises:
        MedcorePruneError: A device of one number for all, machines that are not alike, or another process that ended.
    """
    if processes() == 1:
        yield
        return
    if device not in ("cpu", "cuda"):
        raise MedcorePruneError(f"device {device} for {processes()} processes: expected cuda, of which each takes one")
    with _naming_the_lost():
        me = _join(device)
        token = _RANKS.set(me)
        try:
            with nullcontext() if me.first else _silent():
                for name, value in {**versions(), "threads": torch.get_num_threads()}.items():
                    me.require_same(value, name)
                yield
        finally:
            _RANKS.reset(token)
        # after an error there may be nobody to take leave of
        dist.destroy_process_group()


def _join(device: str) -> Ranks:
    if device == "cuda":
        require_device(place := f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(place)
    store, rank, count = _meeting()
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    return Ranks(rank, count)


@functools.cache
def _meeting() -> tuple[dist.Store, int, int]:
    """The store of `torchrun`, by which its processes find each other, with rank and number; it outlives them."""
    store, rank, count = next(dist.rendezvous("env://"))
    # with `--max-restarts` it still holds what those before said, where they were, and that they ended
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"medcore-prune/{attempt}", store), rank, count


@contextmanager
def _silent() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def _naming_the_lost() -> Iterator[None]:
    """Say of another process that ended what it means, in place of what its end does to a socket."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in _GONE):
            raise
        raise ProcessLostError(f"another process of this training has ended: {GO_ON}") from error


def speaks() -> bool:
    """Whether this process is the first that has an error to tell: what follows in the others follows from it."""
    try:
        return _meeting()[0].add("spoken", 1) == 1
    except (RuntimeError, ValueError):
        # torchrun itself is gone, and nobody else can know
        return True
