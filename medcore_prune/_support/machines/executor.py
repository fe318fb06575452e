"""Who runs independent jobs: this process, one after the other, unless a block of `machines` says otherwise."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from ..errors import MedcorePruneError

Context = TypeVar("Context")
Job = TypeVar("Job")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs independent jobs. A job returns values; whoever asks writes them."""

    apart: bool
    """Whether jobs run in other processes, so that contexts and jobs are pickled."""

    def map(
        self, function: Callable[[Context, Job], Iterable[Result]], context: Context, jobs: Mapping[str, Job]
    ) -> Iterator[Result]:
        """Yield what a function yields for each job, in the order of the jobs.

        Args:
            function: One of a module of this package, or of a plug-in; what it yields depends on its arguments alone.
            context: What all jobs read: models, data.
            jobs: What to say of a job in an error, and the job.
        """
        ...


class Serial:
    """One job after the other, in this process; results are handed on as the function yields them."""

    apart = False

    def map(
        self, function: Callable[[Context, Job], Iterable[Result]], context: Context, jobs: Mapping[str, Job]
    ) -> Iterator[Result]:
        """Yield what a function yields for each job, in the order of the jobs."""
        for job in jobs.values():
            yield from function(context, job)


_EXECUTOR: ContextVar[Executor | None] = ContextVar("_EXECUTOR", default=None)


def executor() -> Executor:
    """Return the one of the block that this call stands in."""
    return _EXECUTOR.get() or Serial()


@contextmanager
def here() -> Iterator[None]:
    """Run jobs in this process while the block lasts, whatever a block around it says."""
    token = _EXECUTOR.set(Serial())
    try:
        yield
    finally:
        _EXECUTOR.reset(token)


@contextmanager
def machines(address: str | None, device: str = "cpu") -> Iterator[None]:
    """Run independent jobs on a Ray cluster while the block lasts; None is this process.

    Args:
        address: `auto` for a cluster of this machine alone, or `HOST:PORT` of one that runs already.
        device: Where the jobs compute: `cpu`, or `cuda`, of which each job has one GPU to itself.

    Raises:
        MedcorePruneError: Ray is not installed, there is no cluster at the address, none with a GPU where jobs take
            one, or a GPU of a number.
    """
    if address is None:
        yield
        return
    if device not in ("cpu", "cuda"):
        raise MedcorePruneError(f"device {device} for jobs on a Ray cluster: expected cuda, of which each takes one")
    with ray_needed():
        from .on_ray import cluster
    with cluster(address, device) as found:
        token = _EXECUTOR.set(found)
        try:
            yield
        finally:
            _EXECUTOR.reset(token)


@contextmanager
def ray_needed() -> Iterator[None]:
    """Say how to install Ray where an import within the block finds none."""
    try:
        yield
    except ImportError as error:
        raise MedcorePruneError("work on other machines needs Ray: pip install 'medcore-prune[ray]'") from error
