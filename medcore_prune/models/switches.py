"""How a model runs: which attention it takes, compiled, with blocks recomputed, in evaluation mode for a while."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .._support.errors import MedcorePruneError
from .calls.altered import refuse_masked
from .calls.call import on_models, working_on
from .families import blocks_of, family_of

RUNNING_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def _kinds(model: nn.Module) -> Mapping[str, type[nn.Module]]:
    family = family_of(model)
    kinds: Mapping[str, type[nn.Module]] = getattr(family, "attentions", {})
    if not kinds:
        raise MedcorePruneError(f"models of the family {family.name} have one attention only: leave it as it is")
    return kinds


@on_models("model", refuse=None)
def set_attention(model: nn.Module, kind: str) -> nn.Module:
    """Choose how a model computes attention, in place; parameters, names and hooks stay as they are.

    `"segment-anything"` is the original, which forms the map of all pairs of tokens. `"sdpa"` computes the same with
    PyTorch's fused kernels and never holds the whole map: at 1024 px a fraction of the time and memory. The choice is
    no part of the weights: a file does not hold it, a copy (and a pruned copy) does.

    Args:
        model: A model of a family with several implementations, pruned or not, or its encoder.
        kind: A name among the family's, for SAM `"sdpa"` or `"segment-anything"`.

    Returns:
        The same model.

    Raises:
        MedcorePruneError: Unknown kind, or a family with one implementation only.
    """
    kinds = _kinds(model)
    if kind not in kinds:
        raise MedcorePruneError(f"unknown attention {kind!r}: expected one of {', '.join(kinds)}")
    for block in family_of(model).blocks(model):
        # the classes differ in `forward` alone, so that an object may change from one to the other
        block.attention.__class__ = kinds[kind]
    return model


def attention_of(model: nn.Module) -> str:
    """Name of the implementation that a model's blocks run, where its family has several and the blocks agree."""
    names = {attention: name for name, attention in _kinds(model).items()}
    found = {
        names.get(type(block.attention), type(block.attention).__name__) for block in family_of(model).blocks(model)
    }
    if len(found) != 1:
        raise MedcorePruneError(f"the blocks run {' and '.join(sorted(found))}: call set_attention for all alike")
    return found.pop()


@on_models("model", refuse=refuse_masked)
def compile(model: nn.Module, **options: Any) -> nn.Module:
    """Let `torch.compile` make the image encoder of a finished model faster, in place; results change by rounding.

    Parameters, names and files stay as they are, and a copy is not compiled. The first image of each batch size waits
    for the compiler, which is inductor's C++ or Triton unless `backend` names another. What predicts, evaluates and
    measures runs what is compiled; what cuts, masks, calibrates, corrects, recovers or exports refuses the model: do
    that with the model as it was loaded, and compile the result. `model.image_encoder.compile()` is the same.

    Args:
        model: A model of a known family, pruned or not.
        options: As of `torch.nn.Module.compile`, such as `backend`, `mode` or `dynamic`.

    Returns:
        The same model.

    Raises:
        MedcorePruneError: A model of no known family, or an option that `torch.compile` does not know.
        SurgeryError: The model is within a `masked` or `traceable` block.
    """
    encoder = family_of(model).encoder(model)
    if unknown := sorted(set(options) - set(inspect.signature(torch.compile).parameters)):
        raise MedcorePruneError(f"torch.compile has no option {unknown[0]!r}")
    encoder.compile(**options)
    return model


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of blocks of `kind` that are recomputed in the backward pass; it differs in `forward` alone."""

    def forward(self: nn.Module, *args: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args)
        return checkpoint(kind.forward, self, *args, use_reentrant=False)

    return type(f"Recomputed{kind.__name__}", (kind,), {"forward": forward, "recomputes": kind})


def _modules(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(block.name) for block in blocks_of(model)]


def is_checkpointing(model: nn.Module) -> bool:
    """Whether every block of a model is recomputed in the backward pass."""
    return all(hasattr(type(module), "recomputes") for module in _modules(model))


@on_models("model", refuse=None)
def set_checkpointing(model: nn.Module, on: bool = True) -> nn.Module:
    """Recompute a model's blocks in the backward pass from now on, or no longer; in place.

    Parameters, names and hooks stay as they are, but forward hooks *inside* a block run once more when it is
    recomputed. A copy of the model has the choice as well, a file has not.

    Args:
        model: A model of a known family, pruned or not, or its encoder.
        on: Whether to.

    Returns:
        The same model.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    for module in _modules(model):
        plain: type[nn.Module] = getattr(type(module), "recomputes", type(module))
        module.__class__ = _recomputed(plain) if on else plain  # type: ignore[arg-type]
    return model


@contextmanager
def checkpointing(*models: nn.Module, on: bool = True) -> Iterator[None]:
    """Recompute the blocks of models in every backward pass for as long as the block lasts.

    ::

        with mp.checkpointing(model, reference):
            statistics = mp.calibrate(model, reference, data)

    Args:
        models: Each as for `set_checkpointing`; afterwards each is as it was.
        on: False for a block that changes nothing, where a setting decides.

    Yields:
        Nothing.

    Raises:
        MedcorePruneError: A model of no known family.
    """
    with ExitStack() as stack:
        for model in models if on else ():
            stack.enter_context(_checkpointing(model))
        yield


_WITHIN: "WeakKeyDictionary[nn.Module, tuple[int, bool]]" = WeakKeyDictionary()
"""Model to how many blocks of `checkpointing` it is within, and whether it recomputed before the first."""


@contextmanager
def _checkpointing(model: nn.Module) -> Iterator[None]:
    # blocks of several threads overlap: the first changes the model, and the last puts it back
    with working_on(model, refuse=None):
        count, before = _WITHIN.get(model, (0, is_checkpointing(model)))
        _WITHIN[model] = count + 1, before
        set_checkpointing(model)
    try:
        yield
    finally:
        with working_on(model, refuse=None):
            count, before = _WITHIN.pop(model)
            if count > 1:
                _WITHIN[model] = count - 1, before
            else:
                set_checkpointing(model, before)


def set_training(model: nn.Module) -> None:
    """Put a model into training mode, in place, but for norms over a batch: they go on with their running statistics.

    A few images a step would replace what they have seen of the training data of the whole model; their weights and
    biases are trained as all others.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, RUNNING_NORMS):
            module.eval()


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Models in evaluation mode while the block lasts; each module's mode is then as it was."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
