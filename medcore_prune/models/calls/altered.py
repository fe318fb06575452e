"""Models that do not compute what their weights and classes say: masked, traceable, compiled, patched or hooked ones.

A copy of such a model may go on running the layers that it was copied from, and what is put on its layers may never be
run, without an error. So they are refused, by the part that is altered, before anything is cut or measured.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from ..._support.errors import SurgeryError

Refusal: TypeAlias = Callable[[nn.Module], None]

_WRAPPED = {
    "_orig_mod": "compiled",
    "_checkpoint_wrapped_module": "wrapped for recomputing, which medcore_prune.set_checkpointing does in place",
    "_fsdp_wrapped_module": "wrapped for sharding",
}
"""Name under which a wrapper holds what it wraps, and what it does."""


class ForwardForTraces(partial[Any]):
    """A `forward` that `traceable` puts in the place of a part's own."""


class ZeroChannels:
    """A forward pre-hook that zeroes input channels, and counts how often it did."""

    def __init__(self, keep: Tensor) -> None:
        self._keep = keep
        self.calls = 0

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.calls += 1
        return (args[0] * self._keep, *args[1:])


def refuse_masked(model: nn.Module) -> None:
    """Refuse a model within a `masked` or `traceable` block for all that is kept or copied by its weights."""
    for part in model.modules():
        if isinstance(part.__dict__.get("forward"), ForwardForTraces):
            raise SurgeryError(
                "within a `traceable` block a model is not what its weights say: bind criteria before the block, "
                "calibrate and prune outside of it"
            )
        if any(isinstance(hook, ZeroChannels) for hook in part._forward_pre_hooks.values()):
            raise SurgeryError(
                "a masked model is not what its weights say: leave the `masked` block first, or prune it"
            )


def refuse_altered(model: nn.Module) -> None:
    """Refuse a model with a part whose class does not say what it runs, or whose weights take no gradient.

    It is masked or traceable, was compiled, wrapped, or given a `forward` (or another method) of its own, or its
    weights were made within `torch.inference_mode`. Hooks are let through: what looks on is no harm where it runs.
    """
    refuse_masked(model)
    for name, part in model.named_modules():
        place = name or type(part).__name__
        if own := next(_own_methods(part), None):
            raise SurgeryError(
                f"{place} has a {own} of its own in the place of its class's (compiled, recomputed or patched), which "
                f"a cut, a mask or a copy would not reach: take it off first (del part.{own}), and put it on the result"
            )
        if getattr(part, "_compiled_call_impl", None) is not None:
            raise SurgeryError(
                f"{place} was compiled in place (medcore_prune.compile or .compile()), which a cut, a mask or a hook "
                "need not reach: give the model as it was loaded, and compile the result"
            )
        if wrapped := [what for inside, what in _WRAPPED.items() if inside in part._modules]:
            raise SurgeryError(f"{place} is {wrapped[0]}: put what is inside back in its place first")
        _refuse_inference(place, part)


def refuse_hooked(model: nn.Module) -> None:
    """Refuse what `refuse_altered` does and forward hooks of one's own, for what makes or stands for smaller layers."""
    refuse_altered(model)
    for name, part in model.named_modules():
        if hooks := list(_own_hooks(part)):
            shown = getattr(hooks[0], "__qualname__", type(hooks[0]).__qualname__)
            raise SurgeryError(
                f"{name or type(part).__name__} has a forward hook ({shown}), which may keep layers of the size before "
                "the cut, or change what they give: remove it first, and register it on the result"
            )


def _own_methods(part: nn.Module) -> Iterator[str]:
    """Names of methods of its class that a part has others for."""
    kind = type(part)
    # of most names the class knows nothing, which is quicker to see than that nothing is no method
    of_class = ((name, getattr(kind, name, None)) for name in vars(part))
    return (name for name, value in of_class if value is not None and inspect.isroutine(value))


def _own_hooks(part: nn.Module) -> Iterator[Any]:
    """Forward hooks of a part that neither its own library nor this package put there."""
    homes = {kind.__module__.partition(".")[0] for kind in type(part).__mro__} - {"torch", "builtins"}
    homes.add(__name__.partition(".")[0])
    for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
        home = str(getattr(hook, "__module__", "")).partition(".")[0]
        if home not in homes:
            yield hook


def _refuse_inference(place: str, part: nn.Module) -> None:
    for name, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
        if value.is_inference():
            raise SurgeryError(
                f"{place}.{name} was made within torch.inference_mode, and can neither be cut nor take a gradient: "
                "build or load the model outside of that block, or give a copy.deepcopy made outside of it"
            )
