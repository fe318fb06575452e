"""The contract that every criterion keeps, and the scores of a model's units by it.

A criterion *is* a torch-pruning importance, so that it plugs into any torch-pruning pruner, and torch-pruning's
importances plug in here (`as_criterion`).
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
import torch_pruning as tp
from torch import Tensor, nn

from .._support.errors import CriterionError
from ..calibration.collector import Need
from ..calibration.statistics import Statistics
from ..data.samples import SampleSet
from ..models.calls.call import on_models
from ..models.fingerprint import model_hash
from ..models.groups import Family, StructuredGroup, groups_of
from .inputs import HOW_TO_GIVE, INPUTS, Inputs
from .traced import UnitFinder, family_known, spread

Cost = Literal["free", "calibration", "slow"]
COSTS: tuple[Cost, ...] = ("free", "calibration", "slow")


class _Binding:
    """What a criterion is bound to, and the scores that it has given there; no part of its settings."""

    def __init__(self, inputs: Inputs, num_heads: Mapping[nn.Module, int] | None = None) -> None:
        self.inputs = inputs
        self.finder = UnitFinder(inputs.model, num_heads)
        self.scored: tuple[int, list[Tensor]] = (-1, [])


class Criterion(tp.importance.Importance):
    """A score for every unit (head, or MLP connection group); what scores higher is kept.

    A subclass is a frozen dataclass of its settings, each with a default; without settings a plain class will do. What
    it reads comes with `bind` and is then there as `self.statistics`, `self.model` and `self.data`, and, with the
    reference and the seed, as `self.inputs`. It implements `score`, where it looks at one group at a time, or
    `score_all`, where it needs all units at once to normalise.

    Laws, which `tests/laws` holds the built-in criteria to: one finite number a unit; the same under the same seed;
    parameters, gradients, mode, hooks and the global random state stay as they were; permuting the units permutes the
    scores, unless the criterion is stochastic. Of any criterion `unit_scores` checks, when it runs, one finite number a
    unit and unchanged parameters; the other laws are its author's.

    Attributes:
        needs: What calibration must have collected, under these settings; statistics are read where it names any.
        reads: Names of what else it cannot do without: `model`, `reference`, `data`.
        cost: `"free"`, `"calibration"` where statistics are read or images are run once, `"slow"` where the network
            runs for every unit: such a criterion runs only when named.
        stochastic: Whether scores depend on a seed.

    Raises:
        CriterionError: When a subclass is defined whose constructor takes one of the inputs.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[Cost] = "free"
    stochastic: bool = False

    _name: ClassVar[str] = ""
    _binding: _Binding | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("__init__")
        taken = {*inspect.get_annotations(cls), *(inspect.signature(own).parameters if own else ())}
        if given := [name for name in INPUTS if name in taken]:
            raise CriterionError(
                f"{cls.__name__} takes {' and '.join(given)} in its constructor, which is for settings: leave that out "
                f"and read self.inputs.{given[0]} when it scores; `needs` and `reads` name what it must have"
            )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    @classmethod
    def reads_images(cls) -> bool:
        """Whether it runs the network on images itself."""
        return "data" in cls.reads

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings by name."""
        if is_dataclass(self):
            return {each.name: getattr(self, each.name) for each in fields(self)}
        if inspect.signature(type(self)).parameters:
            raise CriterionError(f"{type(self).__name__} has settings of its own making: make it a frozen dataclass")
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return name and settings as plain values; `build_criterion` makes the same criterion of them."""
        return {"criterion": self._name or type(self).__name__, "settings": self.settings}

    @property
    def is_bound(self) -> bool:
        """Whether it has been given anything to read."""
        return self._binding is not None

    @property
    def inputs(self) -> Inputs:
        """What it is bound to; nothing before `bind`."""
        return self._binding.inputs if self._binding is not None else Inputs()

    @property
    def statistics(self) -> Statistics:
        """What calibration collected; all that is in `needs`."""
        if not self._reads_statistics:
            raise CriterionError(
                f"{type(self).__name__} reads statistics and does not say which: name them, as in "
                "needs = frozenset({mp.Need.FISHER})"
            )
        return self._given("statistics")

    @property
    def model(self) -> nn.Module:
        """The model that is scored."""
        return self._given("model")

    @property
    def data(self) -> Mapping[str, SampleSet]:
        """Images by data set."""
        return self._given("data")

    @property
    def _reads_statistics(self) -> bool:
        return bool(self.needs) or "statistics" in self.reads

    def _given(self, name: str) -> Any:
        self._require(self.inputs, [name])
        return getattr(self.inputs, name)

    def _require(self, inputs: Inputs, names: Sequence[str]) -> None:
        if absent := [name for name in INPUTS if name in names and getattr(inputs, name) is None]:
            name = self._name or type(self).__name__
            raise CriterionError(f"criterion {name!r} needs {' and '.join(absent)}: {HOW_TO_GIVE[absent[0]]}")

    def score(self, group: StructuredGroup) -> Tensor:
        """Score the units of one group: (n_units,), higher is kept."""
        if type(self).score_all is Criterion.score_all:
            raise CriterionError(f"{type(self).__name__} has no scores: define score or score_all")
        return self.score_all([group])[0]

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        """Score all groups of a model: one (n_units,) tensor a group, in order."""
        return [self.score(group) for group in groups]

    def score_channels(self, group: tp.Group) -> Tensor | None:
        """Score the channels of a torch-pruning group that holds neither heads nor neurons.

        Returns:
            (n_channels,), or None, which torch-pruning's pruners read as: leave these channels whole.
        """
        warnings.warn(
            f"{type(self).__name__} scores heads and MLP neurons only: the channels of {group[0].dep.target.name} "
            "are left whole",
            stacklevel=3,
        )
        return None

    def bind(self, model: nn.Module | Inputs, num_heads: Mapping[nn.Module, int] | None = None) -> Self:
        """Give the criterion what it reads, and check that its statistics fit.

        torch-pruning's groups are then found in the model by the names that calibration saw; without a model, names are
        those of the model that torch-pruning traced.

        Args:
            model: The whole model; what else the criterion has been given stays. Or all that it reads, as `Inputs`.
            num_heads: For a model of no known family: fused `qkv` layers to heads, the same mapping that
                torch-pruning's pruner takes. Without it an attention's channels are scored one by one, and
                torch-pruning averages them to heads.

        Returns:
            The criterion itself.

        Raises:
            CriterionError: Something that it reads is absent.
            StatisticsError: The statistics lack what the criterion needs, or were taken on other weights or shapes.
            SurgeryError: The model is within a `traceable` or `masked` block, where its statistics cannot be checked.
        """
        inputs = model if isinstance(model, Inputs) else replace(self.inputs, model=model)
        self._require(inputs, [*self.reads, *(["statistics"] if self._reads_statistics else [])])
        if self._reads_statistics and inputs.statistics is not None:
            inputs.statistics.require(self.needs)
            # of other models only the names are known; each layer's shape is checked when it is scored
            if inputs.model is not None and family_known(inputs.model):
                inputs.statistics.check_fits(inputs.model)
        # settings are frozen, and this is none
        object.__setattr__(self, "_binding", _Binding(inputs, num_heads))
        return self

    def __call__(self, group: tp.Group) -> Tensor | None:
        """Score a torch-pruning group: (n_channels,), every channel with the score of its unit.

        torch-pruning averages an attention's channels to heads, which gives each head its score again.

        Args:
            group: Started at the inputs of `proj` or `lin2`, as `StructuredGroup.tp_group`, or at the outputs of
                `qkv` or `lin1`.

        Returns:
            Scores in the order of the group's starting indices; whatever `score_channels` says for channels that are
            neither heads nor neurons.

        Raises:
            CriterionError: The group's layers are not in the bound model, or the scores cannot be used.
        """
        if self._binding is None:
            object.__setattr__(self, "_binding", _Binding(Inputs()))
        assert self._binding is not None
        units = self._binding.finder.find(group)
        if units is None:
            return self.score_channels(group)
        if not all(name for name, _ in units.layers):
            raise CriterionError(
                f"{type(self).__name__} is bound to a model that does not hold this layer: bind the one that is pruned"
            )
        return spread(group, units, self._scores_of(units, self._binding))

    def _scores_of(self, units: StructuredGroup, binding: _Binding) -> Tensor:
        if type(self).score_all is Criterion.score_all:
            return check_scores(self, [units], [self.score(units)])[0]
        # scores that need all units at once are taken once a cut, not once a group
        groups = binding.finder.groups
        if binding.scored[0] != binding.finder.version:
            binding.scored = (binding.finder.version, check_scores(self, groups, self.score_all(groups)))
        return binding.scored[1][next(i for i, group in enumerate(groups) if group is units)]


def check_scores(criterion: object, groups: Sequence[StructuredGroup], scores: Sequence[Tensor]) -> list[Tensor]:
    """Return scores as float64 on the CPU; refuse a wrong number, shape or kind, and what is not finite."""
    name = type(criterion).__name__
    if len(scores) != len(groups):
        raise CriterionError(f"{name} returned {len(scores)} score tensors for {len(groups)} groups: expected as many")
    checked = []
    for group, values in zip(groups, scores, strict=True):
        where = f"the {group.family} of block {group.block}"
        if not isinstance(values, Tensor) or tuple(values.shape) != (group.n_units,):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise CriterionError(f"{name} returned {got} for {where}: expected a tensor of shape ({group.n_units},)")
        if values.is_complex():
            raise CriterionError(f"{name} returned complex numbers for {where}: expected real scores")
        values = values.detach().to("cpu", torch.float64)
        if not bool(values.isfinite().all()):
            raise CriterionError(f"{name} returned NaN or infinity for {where}: expected finite scores")
        checked.append(values)
    return checked


@on_models("model", refuse=None)
def unit_scores(
    criterion: Criterion, model: nn.Module | Inputs, mlp_group_size: int = 1
) -> dict[tuple[int, Family], Tensor]:
    """Score every unit of a model.

    Args:
        criterion: What scores; it is bound to the model.
        model: A model of a known family; or it and all else that the criterion reads, as `Inputs`.
        mlp_group_size: Neurons that go together.

    Returns:
        (block, family) to float64 scores (n_units,), higher is kept.

    Raises:
        CriterionError: No `Criterion` object, scores that cannot be used, or a criterion that changed the model.
        StatisticsError: The criterion's statistics do not fit the model.
    """
    if not isinstance(criterion, Criterion):
        raise CriterionError(
            f"{criterion!r} is no criterion: expected a Criterion object, as build_criterion makes of a name; "
            "scores_frame takes names"
        )
    scored = model.model if isinstance(model, Inputs) else model
    assert scored is not None, "whoever asks for scores names the model"
    groups = groups_of(scored, mlp_group_size)
    before = model_hash(scored)
    scores = check_scores(criterion, groups, criterion.bind(model).score_all(groups))
    if model_hash(scored) != before:
        raise CriterionError(
            f"{type(criterion).__name__} changed the weights of the model that it scored: let it work on a copy, and "
            "load the model anew"
        )
    return {(group.block, group.family): values for group, values in zip(groups, scores, strict=True)}
