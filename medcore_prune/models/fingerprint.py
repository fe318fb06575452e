"""Hashes that tell one model from another: by its weights, or by all that decides what it computes."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .calls.altered import refuse_masked
from .families import FAMILIES, blocks_of, geometry_of

_NOT_COMPUTED_WITH = frozenset({"training", "name_or_path", "gradient_checkpointing", "grad_checkpointing"})
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_PROCESS = uuid.uuid4().hex


def kind_of_part(part: nn.Module) -> type[nn.Module]:
    """The class of a module; one for all that compute the same, recomputed blocks and fused attention among them."""
    plain: type[nn.Module] = getattr(type(part), "recomputes", type(part))
    for family in FAMILIES.values():
        kinds = list(getattr(family, "attentions", {}).values())
        if plain in kinds:
            first: type[nn.Module] = kinds[0]
            return first
    return plain


def settings_of(part: nn.Module) -> dict[str, str]:
    """A module's own settings, by name: numbers, texts, functions and sequences of them, each as text."""
    found = {name: _shown(value) for name, value in vars(part).items() if name[0] != "_"}
    return {name: text for name, text in found.items() if text is not None and name not in _NOT_COMPUTED_WITH}


def _shown(value: Any) -> str | None:
    """A setting as text; None for what is no setting."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        items = [_shown(item) for item in value]
        return None if None in items else f"({', '.join(item for item in items if item is not None)})"
    if isinstance(value, partial):
        given = [_shown(item) for item in (value.func, value.args, sorted(value.keywords.items()))]
        return f"functools.partial({', '.join(map(str, given))})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return None


def lines_of(model: nn.Module) -> Iterator[str]:
    """Describe a model part by part, each in a line; what computes the same has the same lines, wherever it is."""
    for name, part in model.named_modules():
        kind = kind_of_part(part)
        yield f"{name} {kind.__module__}.{kind.__qualname__} {sorted(settings_of(part).items())}"


def hooks_of(*models: nn.Module) -> str:
    """Name the hooks on models as no others are named, in this process or another; empty where there are none.

    A hook can do anything, and its code does not tell what. Those of the library that a part comes from belong to it.
    A `forward` put on a part in place of its class's is taken for one, which is named anew each time.
    """
    found = []
    for name, part in (named for model in models for named in model.named_modules()):
        home = kind_of_part(part).__module__.partition(".")[0]
        if "forward" in vars(part):
            # unlike a hook it has no number, and its id may be another's later
            found.append(f"{name} forward {uuid.uuid4().hex}")
        for place in _HOOKS:
            for number, hook in getattr(part, place).items():
                if str(getattr(hook, "__module__", "")).partition(".")[0] != home:
                    found.append(f"{name} {place} {number}")
    return hashlib.sha256("\n".join((_PROCESS, *found)).encode()).hexdigest() if found else ""


def _digest(named: Iterable[tuple[str, Tensor]], extra: str = "") -> str:
    state = hashlib.sha256(extra.encode())
    for name, value in named:
        state.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def model_hash(model: nn.Module) -> str:
    """SHA-256 (hex) of a model's sizes, parameters and buffers; refused within `masked`, where they do not tell all."""
    refuse_masked(model)
    blocks = [(block.num_heads, block.head_dim, block.window) for block in blocks_of(model)]
    return _digest(sorted(model.state_dict().items()), f"{geometry_of(model)} {blocks}\n")


def computation_hash(model: nn.Module) -> str:
    """SHA-256 (hex) of all that decides what a model computes, for what is kept to be found again.

    Besides `model_hash`: the class and the settings of every part (activation, epsilon, heads of the decoder), and
    buffers that no file holds. Which attention computes the same, and whether blocks are recomputed, does not count;
    nor do hooks, most of which look on (see `structure.hooks_of`). Versions of the library that a model comes from may
    change it, as they may change what is computed.
    """
    stored = model.state_dict().keys()
    unstored = sorted((name, value) for name, value in model.named_buffers() if name not in stored)
    return _digest(unstored, "\n".join((model_hash(model), *lines_of(model))))
