"""What torch has once for the whole process, changed for a while by one thread at a time: generator, default dtype."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .alone import alone


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the processor's global generator while the block lasts; then it is as it was. No GPU's is touched."""
    with alone(torch.random.default_generator), torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which reseeds every GPU as well
        torch.random.default_generator.manual_seed(seed)
        yield


@contextmanager
def float_by_default() -> Iterator[None]:
    """Make parameters float32 while the block lasts, whatever torch's default is."""
    if (own := torch.get_default_dtype()) == torch.float32:
        yield
        return
    with alone(torch.set_default_dtype):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(own)
