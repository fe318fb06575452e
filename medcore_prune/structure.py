"""What a model is made of besides its weights: the class, the settings and the hooks of each of its parts."""

import hashlib
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from .encoders import FAMILIES

_NOT_COMPUTED_WITH = frozenset({"training", "name_or_path", "gradient_checkpointing", "grad_checkpointing"})
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_PROCESS = uuid.uuid4().hex


def kind_of_part(part: nn.Module) -> type[nn.Module]:
    """The class of a module; one for all that compute the same, recomputed blocks and fused attention among them."""
    plain: type[nn.Module] = getattr(type(part), "recomputes", type(part))
    for family in FAMILIES:
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
