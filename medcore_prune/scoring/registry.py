"""Criteria by name."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
import torch_pruning as tp
from torch import Tensor

from .._support.errors import CriterionError, RegistryError
from .._support.registry import Entry, Registry
from ..calibration.collector import Need
from ..models.groups import FAMILY_NAMES, StructuredGroup
from .criterion import COSTS, Cost, Criterion

Reads = Callable[[Any, StructuredGroup], bool]


def _gradients(_: Any, group: StructuredGroup) -> bool:
    return all(layer.weight.grad is not None for _, layer in group.layers)


def _activations(_: Any, group: StructuredGroup) -> bool:
    return hasattr(group.layer_out, "_importance")


def _never(_: Any, __: StructuredGroup) -> bool:
    return False


_INPUTS: Mapping[type[tp.importance.Importance], tuple[Reads, str]] = {
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
        _activations,
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
    """Refuse one of torch-pruning's importances that has not been given what it reads; anything else passes.

    Raises:
        CriterionError: Gradients or activations are absent, or it is none for transformers.
    """
    for kind, (has, says) in _INPUTS.items():
        if isinstance(importance, kind) and not has(importance, group):
            bare = (name for name, layer in group.layers if layer.weight.grad is None)
            layer = group.name_out if kind is tp.importance.ActivationImportance else next(bare, group.name_out)
            raise CriterionError(f"{type(importance).__name__} cannot score: {says.format(layer=layer)}")


INPUTS = ("statistics", "model", "reference", "data", "seed")
"""What a criterion may ask for by naming a parameter so."""

_ADAPTED = frozenset({Need.FISHER, Need.MEAN_GRADIENT})


def group_seed(seed: int, group: StructuredGroup) -> int:
    """Return a seed for one group, so that blocks and families draw different numbers and order does not matter."""
    return (seed * 1_000_003 + 2 * group.block + FAMILY_NAMES.index(group.family)) % 2**63


class ImportanceCriterion(Criterion):
    """A torch-pruning importance as a criterion: channel scores are averaged to units, as torch-pruning averages heads.

    Called with a torch-pruning group it is that importance, unchanged.

    Args:
        importance: Any callable that takes a `tp.Group` and returns one score a channel.
        seed: What an importance that draws from torch's global generator is given, one state a group.

    Raises:
        CriterionError: When a group is scored: it lacks what it reads (`importance_inputs`), or does not return one
            score a channel.
    """

    def __init__(self, importance: Callable[[tp.Group], Tensor | None], seed: int = 0) -> None:
        self.importance = importance
        self.seed = seed
        self.stochastic = isinstance(importance, tp.importance.RandomImportance)

    def score(self, group: StructuredGroup) -> Tensor:
        check_inputs(self.importance, group)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(group_seed(self.seed, group))
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


class FunctionCriterion(Criterion):
    """A plain function of a group, and of the inputs that its parameters name, as a criterion."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **inputs: Any) -> None:
        self._inputs = inputs
        self.statistics = inputs.get("statistics")

    def score(self, group: StructuredGroup) -> Tensor:
        return type(self).function(group, **self._inputs)


def as_criterion(importance: object, seed: int = 0) -> Criterion:
    """Return a criterion as it is, and a torch-pruning importance (or any callable on a `tp.Group`) as a criterion.

    Raises:
        CriterionError: It cannot be called with a group, or is a class where an instance is expected.
    """
    if isinstance(importance, Criterion):
        return importance
    if isinstance(importance, type) or not callable(importance):
        what = f"the class {importance.__name__}" if isinstance(importance, type) else repr(importance)
        raise CriterionError(f"{what} is no criterion: expected a Criterion or a torch-pruning importance object")
    return ImportanceCriterion(importance, seed)


def criterion_factory(
    name: str, declared: Any, needs: Iterable[Need] | None = None, cost: Cost | None = None
) -> type[Criterion]:
    """Make what was registered a class of criteria.

    Args:
        name: The registered name.
        declared: A `Criterion` class; a torch-pruning importance, class or object; or a function whose first
            parameter takes the group and whose others are among `INPUTS` or have defaults.
        needs: What calibration must collect. For a function that takes `statistics`, by default Fisher and mean
            gradient of the adapted model.
        cost: By default `"calibration"` for a function that takes `statistics`, else `"free"`.

    Returns:
        A subclass of `Criterion`; `declared` itself where it is one.

    Raises:
        RegistryError: It is none of these.
    """
    if cost is not None and cost not in COSTS:
        raise RegistryError(f"criterion {name!r} has cost {cost!r}: expected one of {', '.join(COSTS)}")
    made = _make(name, declared)
    if made is not declared and needs is None and "statistics" in inspect.signature(made).parameters:
        needs = _ADAPTED
    if needs is not None:
        made.needs = frozenset(Need(need) for need in needs)
    if cost is not None or (made is not declared and made.needs):
        made.cost = cost or "calibration"
    _check_parameters(name, made)
    return made


def _make(name: str, declared: Any) -> type[Criterion]:
    if isinstance(declared, type) and issubclass(declared, Criterion):
        if declared.score is Criterion.score and declared.score_all is Criterion.score_all:
            raise RegistryError(f"criterion {name!r} has no scores: define score or score_all")
        return declared
    if isinstance(declared, tp.importance.Importance):
        return _of_importance(declared, lambda: declared, inspect.Signature())
    if isinstance(declared, type) and issubclass(declared, tp.importance.Importance):
        return _of_importance(declared, declared, inspect.signature(declared))
    if inspect.isfunction(declared):
        return _of_function(declared)
    raise RegistryError(
        f"criterion {name!r} is {declared!r}: expected a Criterion class, a function of a group, or a torch-pruning "
        "importance"
    )


def _of_importance(declared: Any, make: Callable[..., Any], signature: inspect.Signature) -> type[Criterion]:
    def __init__(self: ImportanceCriterion, seed: int = 0, **settings: Any) -> None:  # noqa: N807
        ImportanceCriterion.__init__(self, make(**settings), seed)

    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=0)
    base = declared if isinstance(declared, type) else type(declared)
    stochastic = issubclass(base, tp.importance.RandomImportance)
    made = type(base.__name__, (ImportanceCriterion,), {"__init__": __init__, "stochastic": stochastic})
    made.__doc__ = f"torch-pruning's {base.__name__}, averaged from channels to heads."
    settings = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    made.__signature__ = inspect.Signature([*settings, seed])  # type: ignore[attr-defined]
    return made


def _of_function(declared: Callable[..., Tensor]) -> type[Criterion]:
    parameters = list(inspect.signature(declared).parameters.values())
    inputs = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters[1:]]
    members = {"function": staticmethod(declared), "stochastic": "seed" in [p.name for p in inputs]}
    made = type(declared.__name__, (FunctionCriterion,), members)
    made.__doc__ = declared.__doc__
    made.__signature__ = inspect.Signature(inputs)  # type: ignore[attr-defined]
    return made


def _check_parameters(name: str, made: type[Criterion]) -> None:
    unknown = [
        p.name
        for p in inspect.signature(made).parameters.values()
        if p.name not in INPUTS and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if unknown:
        raise RegistryError(
            f"criterion {name!r} asks for {', '.join(unknown)}: expected parameters among {', '.join(INPUTS)}, others "
            "need a default"
        )


V = TypeVar("V")

criteria: Registry[type[Criterion]] = Registry(
    "criterion", "medcore_prune.criteria", "medcore_prune.criteria", prepare=criterion_factory
)
"""All criteria: built-in ones, those of installed packages (entry points of this group), and a user's own."""


def register_criterion(
    name: str, *, source: str = "", needs: Iterable[Need] | None = None, cost: Cost | None = None
) -> Callable[[V], V]:
    """Return a decorator that registers a criterion; it then appears in the comparison by itself.

    It takes a `Criterion` class, a torch-pruning importance, or a plain function such as
    `def weight(group, statistics) -> Tensor`, and hands it back unchanged.

    Args:
        name: Lower-case letters, digits and underscores.
        source: A paper or a project.
        needs: What calibration must collect, and all that can then be relied on; by default the Fisher and the mean
            gradient of the adapted model for a function that takes `statistics`, and for a class its own `needs`.
        cost: `"free"`, `"calibration"`, or `"slow"` for what runs only when named.

    Returns:
        The decorator, which hands back what it is given.

    Raises:
        RegistryError: A bad or taken name, or something that is no criterion.
    """
    return criteria.register(
        name, source=source, prepare=lambda name, declared: criterion_factory(name, declared, needs, cost)
    )


def get_criterion(name: str) -> type[Criterion]:
    """Return the class of criteria registered under `name`.

    Args:
        name: As `available_criteria` lists it.

    Returns:
        The class; `build_criterion` makes an object of it.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return criteria.get(name)


def available_criteria() -> list[str]:
    """Return the names of all criteria, sorted.

    Returns:
        Names that `get_criterion` knows, built in or from plug-ins.
    """
    return criteria.available()


def criterion_info(name: str) -> Entry[type[Criterion]]:
    """Return source, needs, cost and origin of a criterion.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return criteria.info(name)


def build_criterion(criterion: str | type[Criterion], **inputs: Any) -> Criterion:
    """Build a criterion with what its constructor names, and nothing else.

    Args:
        criterion: A registered name, or a class.
        inputs: Any of `statistics`, `model`, `reference`, `data`, `seed`: those that it does not name are left out,
            None counts as absent. And settings such as `beta`, which it must name.

    Returns:
        What scores units.

    Raises:
        RegistryError: An unknown name, or a setting that it does not have.
        CriterionError: An input that it needs is absent.
    """
    made = get_criterion(criterion) if isinstance(criterion, str) else criterion
    name = criterion if isinstance(criterion, str) else criterion.__name__
    parameters = inspect.signature(made).parameters
    settings = [key for key in parameters if key not in INPUTS]
    for key in inputs:
        if key not in INPUTS and key not in parameters:
            raise RegistryError(f"criterion {name!r} has no setting {key!r}: it has {', '.join(settings) or 'none'}")
    given = {key: value for key, value in inputs.items() if key in parameters and not (key in INPUTS and value is None)}
    absent = [key for key, p in parameters.items() if key in INPUTS and p.default is p.empty and key not in given]
    if absent:
        raise CriterionError(f"criterion {name!r} needs {' and '.join(absent)}: {_HOW[absent[0]]}")
    return made(**given)


_HOW = {
    "statistics": "collect them with medcore_prune.calibrate",
    "model": "pass the model that is to be pruned",
    "reference": "pass the checkpoint that the model was fine-tuned from",
    "data": "pass images with masks",
    "seed": "pass a whole number",
}
