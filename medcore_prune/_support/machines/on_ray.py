"""Independent jobs on a Ray cluster, whose machines trust each other: what travels between them is pickled."""

import hashlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

# read when Ray is imported: nothing is told to anybody outside
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import torch
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError

from ..errors import MedcorePruneError
from ..registry import load_plugin, loaded_plugins
from .versions import versions

Context = TypeVar("Context")
Job = TypeVar("Job")
Result = TypeVar("Result")

AUTO = "auto"
"""The address that stands for a cluster of this machine alone, which ends with the command."""
RETRIES = 3
"""How often a job is started again whose worker or machine is lost."""
OBJECT_STORE_BYTES = 512_000_000
"""Shared memory of a cluster that the command starts; Ray's own choice is 30 % of the machine."""
_AHEAD = 2
"""Jobs that are handed out, to one that can run."""

_TORCH: Any = torch.backends
_PRODUCTS: tuple[Any, ...] = (_TORCH.cuda.matmul, _TORCH.cudnn.conv, _TORCH.cudnn.rnn)
"""torch's switches of what products on a GPU are computed in, TF32 or float32."""
_CONTEXT: dict[str, Any] = {}
"""In a worker, the last context by the digest of its bytes."""


def what_workers_share(device: str = "cpu") -> dict[str, Any]:
    """What is the same in all workers as in the command, for `settle`."""
    return {
        "device": device,
        "versions": versions(device),
        "folder": os.getcwd(),
        "threads": torch.get_num_threads(),
        "products": [part.fp32_precision for part in _PRODUCTS],
        "plugins": loaded_plugins(),
    }


def settle(head: Mapping[str, Any]) -> None:
    """Make this worker's process like that of the command, which said in `what_workers_share` what that is."""
    here = socket.gethostname()
    for what, expected in head["versions"].items():
        if (found := versions(head["device"])[what]) != expected:
            raise MedcorePruneError(
                f"worker on {here}: {what} is {found}, expected {expected} as where the command runs: results would "
                "not be the same to the bit"
            )
    try:
        # relative paths mean the same as where the command runs
        os.chdir(head["folder"])
    except OSError as error:
        raise MedcorePruneError(
            f"worker on {here}: there is no folder {head['folder']}, in which the command runs: expected the same "
            "folders on all machines"
        ) from error
    # another number of threads sums in another order
    torch.set_num_threads(head["threads"])
    if head["device"] == "cuda":
        for part, precision in zip(_PRODUCTS, head["products"], strict=True):
            part.fp32_precision = precision
    # before a model is unpickled, whose classes import torchvision
    from ... import compat  # noqa: F401

    for plugin in head["plugins"]:
        load_plugin(plugin)


def _work(head: Mapping[str, Any], context: bytes, job: bytes) -> list[Any]:
    """Run one job in a worker."""
    settle(head)
    if head["context"] not in _CONTEXT:
        _CONTEXT.clear()
        _CONTEXT[head["context"]] = cloudpickle.loads(context)
    function, given = cloudpickle.loads(job)
    return list(function(_CONTEXT[head["context"]], given))


class OnRay:
    """An `Executor`: jobs side by side in Ray's workers, each again elsewhere if its worker or machine is lost."""

    apart = True

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def map(
        self, function: Callable[[Context, Job], Iterable[Result]], context: Context, jobs: Mapping[str, Job]
    ) -> Iterator[Result]:
        """Yield what a function yields for each job, in the order of the jobs."""
        if not jobs:
            return
        packed = cloudpickle.dumps(context)
        head = {**what_workers_share(self._device), "context": hashlib.sha256(packed).hexdigest()}
        shared, waiting, todo = ray.put(packed), deque[tuple[str, Any]](), iter(jobs.items())
        asked = self._asked()
        work = ray.remote(num_cpus=asked["CPU"], num_gpus=asked["GPU"], max_retries=RETRIES)(_work)
        while True:
            # machines come and go
            there = ray.cluster_resources()
            room = _AHEAD * max(1, min(int(there.get(what, 0)) // each for what, each in asked.items() if each))
            while len(waiting) < room and (more := next(todo, None)) is not None:
                waiting.append((more[0], work.remote(head, shared, cloudpickle.dumps((function, more[1])))))
            if not waiting:
                return
            yield from _result(*waiting.popleft())

    def _asked(self) -> dict[str, int]:
        """What a job has to itself."""
        if self._device == "cuda":
            # Ray shows a job its own GPU alone, in a process that ends with the job
            return {"CPU": 1, "GPU": 1}
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        # a job that asked for more than the largest machine has would wait for ever
        return {"CPU": min(torch.get_num_threads(), max(cpus, default=1) or 1), "GPU": 0}


def _result(name: str, reference: Any) -> list[Any]:
    try:
        found: list[Any] = ray.get(reference)
        return found
    except RayTaskError as error:
        raise (error.cause or error) from None
    except RayError as error:
        raise MedcorePruneError(
            f"{name}: lost {RETRIES + 1} times with its worker ({type(error).__name__}): look for machines without "
            "free memory, and give the command again, which goes on from what is stored"
        ) from error


@contextmanager
def cluster(address: str, device: str = "cpu") -> Iterator[OnRay]:
    """Join a cluster, or start one of this machine alone; it is left, or shut down, when the block ends.

    Jobs compute on the device, `cpu` or `cuda`.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    # by Ray's own choice, workers get next to nothing of cores that others want too, and what finds no memory is
    # started again for ever
    own["_system_config"] = {"worker_niceness": 0, "task_oom_retries": RETRIES}
    try:
        if address == AUTO:
            ray.init("local", _node_ip_address="127.0.0.1", **own, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:
        # Ray has no kind of its own for this: a start that takes longer than half a minute is a bare Exception
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MedcorePruneError(
            f"{address}: no Ray cluster there ({first:.120}): expected {AUTO}, or HOST:PORT of a machine on which "
            "Ray was started as head"
        ) from error
    try:
        if device == "cuda" and not ray.cluster_resources().get("GPU"):
            raise MedcorePruneError(f"{address}: no machine of the cluster has a GPU: expected one for the device cuda")
        yield OnRay(device)
    finally:
        ray.shutdown()
