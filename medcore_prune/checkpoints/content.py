"""The weights in what a training script has saved: under which key they lie, and under which prefix their names.

Weights lie at the top or under one of `KEYS`, also one within another. Their names begin with those of the modules that
they were trained within, such as `module.`, `_orig_mod.`, `model.` and `sam.` in any nesting; wrappers of compilers
stand inside names as well.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._support.errors import CheckpointError, MedcorePruneWarning

KEYS = ("model", "state_dict", "model_state_dict", "net", "ema")
"""Where weights lie, the first that is there being taken."""
_INSIDE = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
_OUTSIDE = frozenset({"module", "model", "sam", "net"})
_PARTS = frozenset({"image_encoder", "prompt_encoder", "mask_decoder", "vision_encoder", "shared_image_embedding"})
_SCALES = frozenset({"pixel_mean", "pixel_std"})
_SHOWN = 5


@dataclass(frozen=True)
class Weights:
    """Tensors by the names in the file, `module.` apart, and the plain values that were saved beside them."""

    path: Path
    named: dict[str, Tensor]
    beside: Mapping[str, Any]

    def bare(self) -> dict[str, Tensor]:
        """The tensors by the names that a SAM itself gives them; several models in one file are refused."""
        return _bare(self.named, self.path)


def weights_in(content: Any, path: Path) -> Weights:
    """Find the weights in a file's content."""
    beside: dict[str, Any] = {}
    while isinstance(content, Mapping) and (found := [key for key in KEYS if isinstance(content.get(key), Mapping)]):
        if len(found) > 1:
            warnings.warn(
                f"{path} holds weights under {' and '.join(found)}: those under {found[0]} are taken; for others give "
                "a file that holds them alone",
                MedcorePruneWarning,
                stacklevel=2,
            )
        beside |= {str(key): value for key, value in content.items() if key not in KEYS}
        content = content[found[0]]
    state = {str(n): v for n, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise CheckpointError(
            f"{path}: expected a dictionary of tensors (or one under the key {', '.join(map(repr, KEYS))}), got "
            f"{_shown(content)}"
        )
    beside |= {str(key): value for key, value in content.items() if not isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return Weights(path, state, beside)


def _shown(content: Any) -> str:
    if not isinstance(content, Mapping):
        return type(content).__name__
    keys = [str(key)[:40] for key in list(content)[:_SHOWN]]
    return f"one with the keys {', '.join(keys)}" if keys else "an empty one"


def _bare(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    names = {name: [part for part in name.split(".") if part not in _INSIDE] for name in state}
    before = {name: found for name, parts in names.items() if (found := _before_part(parts)) is not None}
    if not before:
        return _renamed(state, _without_common(names), path)
    # beside a model that stands within something else there are losses and metrics, which are no part of it
    around = () not in before.values()
    short = {
        name: _within_part(parts[len(before.get(name, ())) :])
        for name, parts in names.items()
        if not around or name in before
    }
    return _renamed(state, short, path)


def _before_part(parts: list[str]) -> tuple[str, ...] | None:
    """What stands before the name of one of a SAM's parts, or of its scale; None where there is none."""
    for place, part in enumerate(parts):
        if part in _PARTS or (part in _SCALES and place == len(parts) - 1):
            return tuple(parts[:place])
    return None


def _within_part(parts: list[str]) -> list[str]:
    """A part that was wrapped by itself, as by data-parallel training."""
    return [parts[0], *parts[2:]] if len(parts) > 2 and parts[0] in _PARTS and parts[1] == "module" else parts


def _without_common(names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Take away first words that all names have."""
    short = dict(names)
    while all(len(parts) > 1 and parts[0] in _OUTSIDE for parts in short.values()) and (
        len({parts[0] for parts in short.values()}) == 1
    ):
        short = {name: parts[1:] for name, parts in short.items()}
    return short


def _renamed(state: Mapping[str, Tensor], short: Mapping[str, list[str]], path: Path) -> dict[str, Tensor]:
    owners = defaultdict(list)
    for name, parts in short.items():
        owners[".".join(parts)].append(name)
    for first, *others in owners.values():
        # a wrapper may hold a part under two names
        if other := next((name for name in others if not torch.equal(state[name], state[first])), None):
            raise CheckpointError(
                f"{path}: it holds several models, {first} and {other} among them: give a file with the weights of one "
                "of them"
            )
    return {new: state[names[0]] for new, names in owners.items()}
