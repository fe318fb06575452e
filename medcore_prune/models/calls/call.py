"""The frame around a public function that works on models: `@on_models("model", "reference")`.

Within it no model is altered, no other thread is at one of them, and gradients, inference mode, autocast and the
default device are torch's own, whatever block the call stands in.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from ..._support.alone import alone
from ..precision import products_in
from .altered import Refusal, refuse_altered

P = ParamSpec("P")
R = TypeVar("R")


def on_models(
    *names: str, refuse: Refusal | None = refuse_altered, autocast: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function whose arguments `names` are models, each of which may be None or something else.

    Altered ones are refused by `refuse`. An `autocast` block around the call is left, unless `autocast` says that it
    counts; every other block is left in any case.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = signature.bind(*args, **kwargs).arguments
            with working_on(*map(given.get, names), refuse=refuse), undisturbed(autocast):
                return function(*args, **kwargs)

        return call

    return decorate


@contextmanager
def working_on(*models: object, refuse: Refusal | None = refuse_altered, block: str = "") -> Iterator[None]:
    """Keep models, or mappings to models, to this thread and refuse altered ones; anything else is passed over.

    Another thread's call waits, unless `block` names what the user holds the model with for as long as it likes.
    """
    each = [one for model in models for one in (model.values() if isinstance(model, Mapping) else (model,))]
    modules = [one for one in each if isinstance(one, nn.Module)]
    with alone(*(part for module in modules for part in (module, *module.children())), block=block):
        for module in modules if refuse else ():
            assert refuse is not None
            refuse(module)
        yield


@contextmanager
def undisturbed(autocast: bool = False) -> Iterator[None]:
    """Leave the blocks that a call may stand in: inference mode, no gradients, autocast, another default device."""
    with ExitStack() as stack:
        # leaves `no_grad` as well
        stack.enter_context(torch.inference_mode(False))
        for kind in () if autocast else ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # convolutions as matrix products, whichever way these are set
        stack.enter_context(products_in(None, "cuda" if torch.cuda.is_available() else "cpu"))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
