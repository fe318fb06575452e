"""A model on one batch, run again and again from one of its blocks on: what lies before is run once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..models.families import blocks_of

Entered = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional and named arguments of a block."""

_CLOSE = 1e-5
"""Largest difference of what a model gives from a block on and as a whole, relative to the largest value."""


class _Enough(Exception):  # noqa: N818  # no error: nothing went wrong
    """Stops a forward pass: the rest is not needed."""


class Resumed:
    """A model, in evaluation mode, on one batch; its layers may be changed between runs, from the start on.

    Of one block at a time what entered it is kept. A model whose later parts read more of the earlier ones than that is
    found out when the start is moved, and runs as a whole from then on.

    Args:
        model: Any model of a known family.
        run: Runs it on the batch.
    """

    def __init__(self, model: nn.Module, run: Callable[[], Tensor]) -> None:
        self._run, self._blocks = run, blocks_of(model)
        self._modules = [model.get_submodule(block.name) for block in self._blocks]
        self._whole_alone = False
        self._start: tuple[int, Entered] | None = None
        self.whole = run()

    def run(self) -> Tensor:
        """Run from the start on."""
        if self._start is None:
            return self._run()
        with self._from(*self._start):
            return self._run()

    def start_at(self, block: int) -> None:
        """Start at a block, by its place, no earlier than before; all layers must be as they were in the first run."""
        if not block or self._whole_alone:
            return
        self._start = (block, self._entered(block))
        found = self.run()
        if found.shape != self.whole.shape or self._differs(found):
            self._start, self._whole_alone = None, True

    def _differs(self, found: Tensor) -> bool:
        # NaN is no difference: what is not a number is found where the loss is used
        apart, largest = torch.stack([(found - self.whole).abs().max(), self.whole.abs().max()]).tolist()
        return bool(apart > _CLOSE * largest)

    def _entered(self, block: int) -> Entered:
        """What enters a block, run from the former start."""
        caught: list[Entered] = []

        def catch(_module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            caught.append((args, named))
            raise _Enough

        handle = self._modules[block].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            with suppress(_Enough):
                self.run()
        finally:
            handle.remove()
        return caught[0]

    @contextmanager
    def _from(self, block: int, entered: Entered) -> Iterator[None]:
        """Pass over everything before a block, and hand it what once entered it."""
        between = [part.then for part in self._blocks[:block] if part.then is not None]
        over = [*self._modules[:block], *between]
        own = [module.__dict__.get("forward") for module in over]
        handle = self._modules[block].register_forward_pre_hook(lambda *_: entered, with_kwargs=True)
        try:
            for module in over:
                module.forward = _first
            yield
        finally:
            handle.remove()
            for module, forward in zip(over, own, strict=True):
                if forward is None:
                    module.__dict__.pop("forward", None)
                else:
                    module.forward = forward


def _first(*args: Any, **named: Any) -> Any:
    """What a block is handed, as what it gives."""
    return args[0] if args else next(iter(named.values()))
