"""Processes of one training on a Ray cluster: told what `torchrun` tells those that it starts, and nothing else.

The first is the command itself, which alone writes and speaks; the others are Ray's, on whatever machines have room.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError, RayTaskError

from ..errors import MedcorePruneError
from .on_ray import cluster, settle, what_workers_share
from .ranks import GO_ON, ProcessLostError

ROOM_S = 120.0
"""How long machines may take to start the processes; where there are too few cores they never do."""
LAST_WORDS_S = 30.0
"""How long is waited for what the others say when one of them ended."""


def _work(head: Mapping[str, Any], rank: int, count: int, host: str, port: int, work: Callable[[], None]) -> None:
    """Be a process of a training, in a worker."""
    settle(head)
    store = dist.TCPStore(host, port, is_master=False)
    _arrive(store, rank)
    os.environ.update(_told(store, rank, count))
    work()


def _arrive(store: dist.TCPStore, rank: int) -> None:
    """Say on which machine a process is."""
    store.set(_place(rank), ray.get_runtime_context().get_node_id())


def _place(rank: int) -> str:
    return f"machine/{rank}"


def _told(store: dist.TCPStore, rank: int, count: int) -> dict[str, str]:
    """What `torchrun` says in the environment of a process; waits until all have arrived."""
    places = [store.get(_place(each)) for each in range(count)]
    known = {
        "RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_RANK": places[:rank].count(places[rank]),
        "LOCAL_WORLD_SIZE": places.count(places[rank]),
        "MASTER_ADDR": store.host,
        "MASTER_PORT": store.port,
        "TORCHELASTIC_RUN_ID": "ray",
        "TORCHELASTIC_USE_AGENT_STORE": True,
        **_link(),
    }
    return {name: str(value) for name, value in known.items()}


def _link() -> dict[str, str]:
    """The link by which gloo talks: the one that Ray found; a host's own name often stands for the machine alone."""
    address = ray.util.get_node_ip_address()
    names = [name for name, found in psutil.net_if_addrs().items() if any(each.address == address for each in found)]
    wanted = os.environ.get("GLOO_SOCKET_IFNAME") or next(iter(names), None)
    return {"GLOO_SOCKET_IFNAME": wanted} if wanted else {}


@contextmanager
def first_of(count: int, address: str, work: Callable[[], None]) -> Iterator[None]:
    """Be the first of so many processes while the block lasts; the others do `work` on a Ray cluster.

    Args:
        count: How many processes there are, this one among them.
        address: As for `machines`.
        work: What the block does, of a module of this package.

    Raises:
        MedcorePruneError: No cluster, no room on it, or what another process found; `ProcessLostError` where one ended.
    """
    with cluster(address):
        _require_room(count - 1, ray.cluster_resources().get("CPU", 0), address)
        host = ray.util.get_node_ip_address()
        # as torchrun's, it outlives a process that is lost
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        _arrive(store, 0)
        # a process ends with its work, however that ends: the others see that it is gone
        start = ray.remote(num_cpus=torch.get_num_threads(), max_calls=1, max_retries=0, scheduling_strategy="SPREAD")(
            _work
        ).remote
        others = [start(what_workers_share(), rank, count, host, store.port, work) for rank in range(1, count)]
        _wait_for_all(store, others, address)
        over = threading.Event()
        threading.Thread(target=_end_without, args=(others, over), daemon=True).start()
        with _environment(_told(store, 0, count)):
            try:
                yield
            except ProcessLostError:
                _raise_what_they_found(others)
                raise
            finally:
                over.set()
        _raise_what_they_found(others)


def _wait_for_all(store: dist.TCPStore, others: Sequence[Any], address: str) -> None:
    until = time.monotonic() + ROOM_S
    while not store.check([_place(rank) for rank in range(1, len(others) + 1)]):
        if ray.wait(list(others), timeout=0.5)[0]:
            _raise_what_they_found(others)
            raise ProcessLostError(f"{address}: a process of this training ended before it began: look at its machine")
        if time.monotonic() > until:
            raise MedcorePruneError(
                f"{address}: not all of {len(others)} processes have begun within {ROOM_S:.0f} s: expected free cores "
                "for them; look at what else works on the cluster"
            )


def _require_room(count: int, cores: float, address: str) -> None:
    if cores < count * (threads := torch.get_num_threads()):
        raise MedcorePruneError(
            f"{address}: the cluster has {cores:g} cores for {count} processes of {threads} threads beside this one: "
            "take fewer processes, or fewer threads by OMP_NUM_THREADS"
        )


def _raise_what_they_found(others: Sequence[Any]) -> None:
    """Raise what a process ended with of its own; those that are gone, or miss another one, have nothing to say."""
    for each in ray.wait(list(others), num_returns=len(others), timeout=LAST_WORDS_S)[0]:
        try:
            ray.get(each)
        except RayTaskError as error:
            if not isinstance(error.cause, ProcessLostError):
                raise (error.cause or error) from None
        except RayError:
            continue


def _end_without(others: Sequence[Any], over: threading.Event) -> None:
    """End the command where the cluster has given a process up and this one does not notice.

    A machine that is cut off says nothing, and what waits for it in torch can be stopped by the end of the process
    alone. What is stored is whole.
    """
    try:
        ray.get(list(others))
    except RayTaskError:
        # it has ended, as this process notices
        return
    except RayError:
        if not over.wait(LAST_WORDS_S):
            print(f"error: a machine of this training is gone: {GO_ON}", file=sys.stderr, flush=True)
            os._exit(1)


@contextmanager
def _environment(known: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
