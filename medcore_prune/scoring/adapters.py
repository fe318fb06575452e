"""What is no criterion by itself and becomes one: torch-pruning's importances, and plain functions of a group."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch_pruning as tp
from torch import Tensor

from .._support.errors import CriterionError
from .._support.generators import seeded
from ..models.groups import FAMILY_NAMES, StructuredGroup
from .criterion import Criterion
from .inputs import INPUTS


def _gradients(group: StructuredGroup) -> bool:
    return all(layer.weight.grad is not None for _, layer in group.layers)


def _never(_: StructuredGroup) -> bool:
    return False


_INPUTS: Mapping[type[tp.importance.Importance], tuple[Callable[[StructuredGroup], bool], str]] = {
    tp.importance.GroupTaylorImportance: (
        _gradients,
        "it reads gradients, and {layer} has none: call loss.backward() first, with gradients for the whole encoder, "
        "or use the criterion 'taylor'",
    ),
    tp.importance.GroupHessianImportance: (
        _gradients,
        "it reads squared gradients, and {layer} has none: call loss.backward() and then its accumulate_grad(model), "
        "and leave the gradients there",
    ),
    tp.importance.ActivationImportance: (
        lambda group: hasattr(group.layer_out, "_importance"),
        "it reads activations, and {layer} has none: run the model on images within its compute_importance(model) "
        "first",
    ),
    tp.importance.OBDCImportance: (
        _never,
        "its Fisher is for layers that read one vector an image, and these read tokens: use a criterion that reads "
        "calibration, such as 'zero'",
    ),
    tp.importance.BNScaleImportance: (
        _never,
        "it reads the scales of batch normalisation, and transformer blocks have none: use "
        "GroupMagnitudeImportance or the criterion 'magnitude'",
    ),
}


def check_inputs(importance: object, group: StructuredGroup) -> None:
    """Refuse one of torch-pruning's importances that lacks gradients or activations, or is none for transformers."""
    for kind, (has, says) in _INPUTS.items():
        if isinstance(importance, kind) and not has(group):
            bare = (name for name, layer in group.layers if layer.weight.grad is None)
            layer = group.name_out if kind is tp.importance.ActivationImportance else next(bare, group.name_out)
            raise CriterionError(f"{type(importance).__name__} cannot score: {says.format(layer=layer)}")


def group_seed(seed: int, group: StructuredGroup) -> int:
    """Return a seed for one group, so that blocks and families draw different numbers and order does not matter."""
    return (seed * 1_000_003 + 2 * group.block + FAMILY_NAMES.index(group.family)) % 2**63


class ImportanceCriterion(Criterion):
    """A torch-pruning importance as a criterion: channel scores are averaged to units, as torch-pruning averages heads.

    Called with a torch-pruning group it is that importance, unchanged. An importance that draws from torch's global
    generator is given one state a group.
    """

    def __init__(self, importance: Callable[[tp.Group], Tensor | None]) -> None:
        self.importance = importance
        self.stochastic = isinstance(importance, tp.importance.RandomImportance)

    def score(self, group: StructuredGroup) -> Tensor:
        check_inputs(self.importance, group)
        with seeded(group_seed(self.inputs.seed, group)):
            channels = self.importance(group.tp_group)
        wanted = group.out_cols.numel()
        if channels is None or tuple(channels.shape) != (wanted,):
            got = "nothing" if channels is None else f"shape {tuple(channels.shape)}"
            raise CriterionError(
                f"{type(self.importance).__name__} returned {got} for the {group.family} of block {group.block}: "
                f"expected one score for each of {wanted} channels"
            )
        return channels.detach()[group.out_cols.to(channels.device)].mean(1)

    def __call__(self, group: tp.Group) -> Tensor | None:
        return self.importance(group)


class _Registered(ImportanceCriterion):
    """A registered importance: an object, or a class with the arguments of its constructor as settings."""

    make: ClassVar[Callable[..., Callable[[tp.Group], Tensor | None]]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "importance", type(self).make(**self.settings))


class FunctionCriterion(Criterion):
    """A plain function of a group, and of the inputs that its parameters name, as a criterion."""

    function: ClassVar[Callable[..., Tensor]]
    passed: ClassVar[tuple[str, ...]] = ()

    def score(self, group: StructuredGroup) -> Tensor:
        found = {name: getattr(self.inputs, name) for name in self.passed}
        given = {name: value for name, value in found.items() if value is not None}
        return type(self).function(group, **given, **self.settings)


def as_criterion(importance: object) -> Criterion:
    """Return a criterion as it is, and a torch-pruning importance (or any callable on a `tp.Group`) as a criterion."""
    if isinstance(importance, Criterion):
        return importance
    if isinstance(importance, type) or not callable(importance):
        what = f"the class {importance.__name__}" if isinstance(importance, type) else repr(importance)
        raise CriterionError(f"{what} is no criterion: expected a Criterion or a torch-pruning importance object")
    return ImportanceCriterion(importance)


def of_importance(declared: Any) -> type[Criterion]:
    """Make a class of criteria of a torch-pruning importance, class or object."""
    kind = declared if isinstance(declared, type) else type(declared)
    make = declared if isinstance(declared, type) else lambda: declared
    settings = inspect.signature(declared).parameters.values() if isinstance(declared, type) else ()
    members = {"make": staticmethod(make), "stochastic": issubclass(kind, tp.importance.RandomImportance)}
    about = f"torch-pruning's {kind.__name__}, averaged from channels to heads."
    return _with_settings(kind.__name__, _Registered, list(settings), members, about)


def of_function(declared: Callable[..., Tensor]) -> type[Criterion]:
    """Make a class of criteria of a function: what follows the group and is no input is a setting."""
    parameters = list(inspect.signature(declared).parameters.values())[1:]
    passed = [p for p in parameters if p.name in INPUTS]
    members = {
        "function": staticmethod(declared),
        "passed": tuple(p.name for p in passed),
        "reads": tuple(p.name for p in passed if p.default is p.empty and p.name != "seed"),
        "stochastic": "seed" in [p.name for p in passed],
    }
    settings = [p for p in parameters if p not in passed]
    return _with_settings(declared.__name__, FunctionCriterion, settings, members, declared.__doc__)


def _with_settings(
    name: str, base: type[Criterion], settings: Sequence[inspect.Parameter], members: dict[str, Any], about: str | None
) -> type[Criterion]:
    """A frozen dataclass with the settings that parameters name, defaults included."""
    settings = [p for p in settings if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    fields = [(p.name, Any, _default(p.default)) for p in settings]
    made = dataclasses.make_dataclass(name, fields, bases=(base,), namespace=members, frozen=True)
    made.__doc__ = about
    return made


def _default(value: Any) -> Any:
    # a dataclass refuses a list as default, which a function may have
    unhashable = type(value).__hash__ is None
    return dataclasses.field(default_factory=lambda: value) if unhashable else dataclasses.field(default=value)
