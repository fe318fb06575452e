"""The contract that every criterion keeps, and the registry of criteria.

A criterion *is* a torch-pruning importance, so that it plugs into any torch-pruning pruner, and torch-pruning's
importances plug in here (`as_criterion`).
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch_pruning as tp
from torch import Tensor, nn

from .._support.errors import CriterionError
from ..calibration.collector import Need
from ..models.fingerprint import model_hash
from ..models.groups import Family, StructuredGroup, groups_of
from .traced import UnitFinder, family_known, spread

Cost = Literal["free", "calibration", "slow"]
COSTS: tuple[Cost, ...] = ("free", "calibration", "slow")


class Criterion(tp.importance.Importance):
    """A score for every unit (head, or MLP connection group); what scores higher is kept.

    A subclass implements `score`, where it looks at one group at a time, or `score_all`, where it needs all units at
    once to normalise. It takes what it needs in its constructor, under these names: `statistics`, `model`,
    `reference`, `data`, `seed`; what it keeps as `self.statistics` is checked against the model in `bind`.

    Laws, which `tests/laws` holds the built-in criteria to: one finite number a unit; the same under the same seed;
    parameters, gradients, mode, hooks and the global random state stay as they were; permuting the units permutes the
    scores, unless the criterion is stochastic. Of any criterion `unit_scores` checks, when it runs, one finite number a
    unit and unchanged parameters; the other laws are its author's.

    Attributes:
        needs: What calibration must have collected.
        cost: `"free"`, `"calibration"` where statistics are read or images are run once, `"slow"` where the network
            runs for every unit: such a criterion runs only when named.
        stochastic: Whether scores depend on a seed.
    """

    needs: frozenset[Need] = frozenset()
    cost: ClassVar[Cost] = "free"
    stochastic: bool = False

    _finder: UnitFinder | None = None
    _scored: tuple[int, list[Tensor]] = (-1, [])

    @classmethod
    def needs_for(cls, **settings: Any) -> frozenset[Need]:
        """What calibration must collect under these constructor settings; by default `needs`, whatever they are."""
        return cls.needs

    @classmethod
    def reads_images(cls) -> bool:
        """Whether it runs the network on images itself: its constructor asks for `data`."""
        return "data" in inspect.signature(cls).parameters

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

    def bind(self, model: nn.Module, num_heads: Mapping[nn.Module, int] | None = None) -> Self:
        """Tell the criterion which model torch-pruning's groups come from, and check that its statistics fit.

        Needed where a criterion reads statistics by layer name; without it, names are those of the model that
        torch-pruning traced.

        Args:
            model: The whole model, with the layer names that calibration saw.
            num_heads: For a model of no known family: fused `qkv` layers to heads, the same mapping that
                torch-pruning's pruner takes. Without it an attention's channels are scored one by one, and
                torch-pruning averages them to heads.

        Returns:
            The criterion itself.

        Raises:
            StatisticsError: The statistics lack what the criterion needs, or were taken on other weights or shapes.
            SurgeryError: The model is within a `traceable` or `masked` block, where its statistics cannot be checked.
        """
        statistics = getattr(self, "statistics", None)
        if statistics is not None:
            statistics.require(self.needs)
            # of other models only the names are known; each layer's shape is checked when it is scored
            if family_known(model):
                statistics.check_fits(model)
        self._finder = UnitFinder(model, num_heads)
        self._scored = (-1, [])
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
        if self._finder is None:
            self._finder = UnitFinder()
        units = self._finder.find(group)
        if units is None:
            return self.score_channels(group)
        if not all(name for name, _ in units.layers):
            raise CriterionError(
                f"{type(self).__name__} is bound to a model that does not hold this layer: bind the one that is pruned"
            )
        return spread(group, units, self._scores_of(units, self._finder))

    def _scores_of(self, units: StructuredGroup, finder: UnitFinder) -> Tensor:
        if type(self).score_all is Criterion.score_all:
            return check_scores(self, [units], [self.score(units)])[0]
        # scores that need all units at once are taken once a cut, not once a group
        if self._scored[0] != finder.version:
            self._scored = (finder.version, check_scores(self, finder.groups, self.score_all(finder.groups)))
        return self._scored[1][next(i for i, group in enumerate(finder.groups) if group is units)]


def check_scores(criterion: object, groups: Sequence[StructuredGroup], scores: Sequence[Tensor]) -> list[Tensor]:
    """Return scores as float64 on the CPU, after checking that they can be used.

    Raises:
        CriterionError: A wrong number of tensors, a wrong shape, complex numbers, or one that is not finite.
    """
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


def unit_scores(criterion: Criterion, model: nn.Module, mlp_group_size: int = 1) -> dict[tuple[int, Family], Tensor]:
    """Score every unit of a model.

    Args:
        criterion: What scores; it is bound to the model.
        model: A model of a known family.
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
    groups = groups_of(model, mlp_group_size)
    before = model_hash(model)
    scores = check_scores(criterion, groups, criterion.bind(model).score_all(groups))
    if model_hash(model) != before:
        raise CriterionError(
            f"{type(criterion).__name__} changed the weights of the model that it scored: let it work on a copy, and "
            "load the model anew"
        )
    return {(group.block, group.family): values for group, values in zip(groups, scores, strict=True)}
