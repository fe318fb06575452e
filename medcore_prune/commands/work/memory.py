"""What fits into the memory that is there: attention, recomputing and images at a time are chosen by it."""

from collections.abc import Callable, Sequence

import click
from torch import nn

from ..._support.machines.ranks import ranks
from ..._support.progress import duration
from ...evaluation.estimates import Estimate, available_bytes, evaluation_estimate, require_memory
from ...models.families import family_of
from ...models.switches import set_attention, set_checkpointing
from .outputs.said import detail, is_verbose

_WORTH_SAYING_S = 5.0


def fit(estimate: Callable[[int], Estimate], most: int, models: Sequence[nn.Module], trained: bool = False) -> int:
    """Say how long work will take before it starts, set models so that it fits, and return the images at a time.

    Where memory is short, attention is computed by fused kernels, then fewer images at a time than `most`, and where
    that is not enough blocks are computed twice in backward passes. None of it changes a result but by rounding.
    `estimate` says what so many images at a time take, the models being as they are. Of several processes, all take
    the way of the one with the least memory.
    """
    found = estimate(most)
    limits = ranks().gathered(available_bytes(found.device))
    limit = min((each for each in limits if each is not None), default=None)
    if limit is not None and found.memory_bytes > limit:
        for model in models:
            if "sdpa" in getattr(family_of(model), "attentions", {}):
                set_attention(model, "sdpa")
        found = _smaller(estimate, most, limit)
        if trained and found.memory_bytes > limit:
            for model in models:
                set_checkpointing(model)
            found = _smaller(estimate, most, limit)
        click.echo("note: memory is short: slower ways are taken that need less", err=True)
    detail(str(found))
    if not is_verbose() and found.seconds is not None and found.seconds >= _WORTH_SAYING_S:
        click.echo(f"{found.work}: about {duration(found.seconds)}", err=True)
    require_memory(found)
    return found.batch_size


def _smaller(estimate: Callable[[int], Estimate], most: int, limit: int) -> Estimate:
    """The estimate of the most images that fit, or of one."""
    whole = estimate(most)
    return estimate(max(1, min(most, whole.largest_batch(limit))))


def images_at_a_time(model: nn.Module, most: int) -> int:
    """Images that forward passes take at a time without more memory than there is, `most` where there is room."""
    found = evaluation_estimate(model, most, batch_size=most, trial=False)
    limit = available_bytes(found.device)
    return most if limit is None or found.memory_bytes <= limit else max(1, found.largest_batch(limit))
