"""Baselines: published methods as recipes built from criteria, and the registry of them.

A baseline says which criterion with which settings, and how the budget is spread. A criterion that a *user* registers
is a baseline with uniform quotas by itself; the built-in criteria are not, unless they are named.
"""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import torch_pruning as tp
from torch import Tensor, nn

from .._support.errors import CriterionError, RegistryError, UnknownNameError, require_known
from .._support.registry import BUILT_IN, Entry, Registry, unknown_name
from ..calibration.collector import Need
from ..calibration.statistics import Statistics
from ..data.samples import SampleSet
from ..defaults import DEFAULTS
from ..models.groups import Family
from .adapters import as_criterion
from .criterion import Cost, Criterion, unit_scores
from .inputs import Inputs
from .registry import criteria

Quotas = Literal["uniform", "sensitivity", "ranked", "searched"]
QUOTAS: tuple[Quotas, ...] = ("uniform", "sensitivity", "ranked", "searched")
F = TypeVar("F", bound=Callable[[], "Baseline"])


@dataclass(frozen=True)
class Baseline:
    """One method of the comparison.

    Attributes:
        criterion: Class of criteria that scores.
        settings: Of the criterion, where they are not its defaults.
        quotas: `"uniform"`, `"sensitivity"` for quotas that fall with the block sensitivity s_b, `"ranked"` to take
            the lowest scores of all blocks, or `"searched"`, which `searched_plan` alone can do: it runs the network.
        tau: Exponent of the quota weights s_b^-tau; read with `"sensitivity"`.
        sensitivity: What s_b is taken from, see `block_sensitivity`.
        tunable: Settings that tuning may vary, `"quotas"` and `"tau"` among them; the others define the method.
        name, source, description: Filled in by the registry.

    Raises:
        RegistryError: No criterion class, unknown quotas, or a setting that the criterion does not have.
    """

    criterion: type[Criterion]
    settings: Mapping[str, Any] = field(default_factory=dict)
    quotas: Quotas = "uniform"
    tau: float = DEFAULTS.tau
    sensitivity: Need = Need.FISHER
    tunable: tuple[str, ...] = ()
    name: str = ""
    source: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.criterion, type) and issubclass(self.criterion, Criterion)):
            raise RegistryError(f"{self.criterion!r} is no class of criteria: {_remedy(self.criterion)}")
        require_known("quotas", self.quotas, QUOTAS, RegistryError)
        known = self.available_settings
        for key in (*self.settings, *self.tunable):
            if key not in known:
                whose = f"baseline {self.name!r}" if self.name else f"a baseline of {self.criterion.__name__}"
                raise RegistryError(unknown_name(f"setting of {whose}", key, list(known)))

    @property
    def available_settings(self) -> tuple[str, ...]:
        """Names that `with_settings` takes."""
        return (*inspect.signature(self.criterion).parameters, "quotas", "tau")

    @property
    def needs(self) -> frozenset[Need]:
        """What calibration must have collected, for the scores and for the quotas."""
        own = self.criterion(**self.settings).needs
        return own | {self.sensitivity} if self.quotas == "sensitivity" else own

    @property
    def reads_reference(self) -> bool:
        """Whether calibration takes the checkpoint that the model was fine-tuned from."""
        return any(need.needs_reference for need in self.needs)

    @property
    def reads_images(self) -> bool:
        """Whether the criterion runs the network on images itself."""
        return self.criterion.reads_images()

    @property
    def cost(self) -> Cost:
        """What the scores cost, `"free"`, `"calibration"` or `"slow"`."""
        return self.criterion.cost

    @property
    def stochastic(self) -> bool:
        """Whether the result depends on a seed, and is to be averaged over several."""
        return self.criterion.stochastic

    @property
    def lambda_b(self) -> float:
        """Weight of the boundary band, for the scores and for s_b; the default where the criterion has none."""
        value = self.setting("lambda_b")
        return DEFAULTS.lambda_b if value is None else float(value)

    @property
    def aggregation(self) -> str | None:
        """`"pooled"` or `"mean_std"`; None where the criterion reads no data sets."""
        value = self.setting("aggregation")
        return None if value is None else str(value)

    def setting(self, name: str) -> Any:
        """Return the value of a setting, its default included; None where there is no such setting."""
        if name in ("quotas", "tau"):
            return getattr(self, name)
        parameter = inspect.signature(self.criterion).parameters.get(name)
        if parameter is None:
            return None
        return self.settings.get(name, parameter.default)

    def with_settings(self, **settings: Any) -> "Baseline":
        """Return the same method with other settings: `quotas`, `tau`, or any of its criterion's.

        Raises:
            RegistryError: There is no such setting.
        """
        own = {key: settings.pop(key) for key in ("quotas", "tau") if key in settings}
        return dataclasses.replace(self, settings={**self.settings, **settings}, **own)

    def build(
        self,
        statistics: Statistics | None = None,
        model: nn.Module | None = None,
        seed: int = 0,
        reference: nn.Module | None = None,
        data: Mapping[str, SampleSet] | None = None,
    ) -> Criterion:
        """Build the criterion and give it what it reads.

        Args:
            statistics: What calibration collected; at least `needs`.
            model: The adapted model.
            seed: Read by stochastic criteria.
            reference: The checkpoint that the model was fine-tuned from.
            data: Data sets by name, for criteria that run the network.

        Raises:
            CriterionError: An input that the criterion needs is absent, or a setting is out of range.
            StatisticsError: The statistics lack what is needed.
        """
        inputs = Inputs(model, reference, data, statistics, seed)
        return self._unbound(inputs).bind(inputs)

    def _unbound(self, inputs: Inputs) -> Criterion:
        """The criterion, where the statistics hold what the scores and the quotas need."""
        if inputs.statistics is not None:
            inputs.statistics.require(self.needs)
        return self.criterion(**self.settings)


def _remedy(given: object) -> str:
    if isinstance(given, str):
        return f"give medcore_prune.get_criterion({given!r})"
    if isinstance(given, Criterion):
        return f"give {type(given).__name__}, and its settings as `settings`"
    return "give what medcore_prune.get_criterion returns, or a subclass of medcore_prune.Criterion"


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0]


def _prepared(name: str, declared: object, source: str = "") -> Baseline:
    try:
        recipe = declared() if callable(declared) else declared
    except RegistryError as error:
        raise RegistryError(f"baseline {name!r}: {error}") from error
    if not isinstance(recipe, Baseline):
        raise RegistryError(f"baseline {name!r}: expected a function that returns a Baseline, got {recipe!r}")
    return dataclasses.replace(recipe, name=name, source=source or recipe.source, description=_first_line(declared))


baselines: Registry[Baseline] = Registry("baseline", "medcore_prune.baselines", "medcore_prune.baselines", _prepared)
"""The comparison's methods: built-in ones, those of installed packages (entry points of this group), a user's own."""


def register_baseline(name: str, *, source: str = "") -> Callable[[F], F]:
    """Return a decorator that registers a recipe: a function without arguments that returns a `Baseline`.

    Its docstring's first line describes the method in lists.

    Args:
        name: Lower-case letters, digits and underscores.
        source: A paper or a project.

    Returns:
        The decorator, which hands the function back unchanged.

    Raises:
        RegistryError: A bad or taken name, or a function that returns no baseline.
    """
    return baselines.register(name, source=source, prepare=lambda name, declared: _prepared(name, declared, source))


def _of_criterion(name: str) -> Entry[Baseline]:
    entry = criteria.info(name)
    recipe = Baseline(entry.value, name=name, source=entry.source, description=_first_line(entry.declared))
    return Entry(name, recipe, entry.declared, entry.source, entry.origin)


def _from_users() -> list[str]:
    """Criteria that are baselines by themselves: all but the built-in ones and those with a recipe of their own."""
    names = [name for name in criteria.available() if criteria.info(name).origin != BUILT_IN]
    for name in names:
        if name in baselines and baselines.info(name).origin == BUILT_IN:
            raise RegistryError(f"criterion {name!r} has the name of a built-in baseline: register it under another")
    return [name for name in names if name not in baselines]


def baseline_info(name: str) -> Entry[Baseline]:
    """Return a baseline, or any criterion as one, slow ones included, with its source and origin."""
    from_users = _from_users()
    if name in baselines:
        return baselines.info(name)
    if name in criteria:
        return _of_criterion(name)
    names = sorted({*baselines.available(), *from_users, *criteria.available()})
    raise UnknownNameError(f"{unknown_name('method', name, names)}; for one of your own load its file first")


def get_baseline(name: str) -> Baseline:
    """Return a baseline by name.

    Args:
        name: Of a baseline, or of a criterion that a user registered, which gets uniform quotas.

    Returns:
        The recipe.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return baseline_info(name).value


def available_baselines(include_slow: bool = False) -> list[str]:
    """Return the names of the comparison's methods, sorted.

    Args:
        include_slow: Also those that run only when they are named.

    Returns:
        Names that `get_baseline` knows.
    """
    names = sorted({*baselines.available(), *_from_users()})
    return [name for name in names if include_slow or get_baseline(name).cost != "slow"]


Scores = Mapping[tuple[int, Family], Tensor]
Scorer: TypeAlias = str | Baseline | tp.importance.Importance | type[Criterion]
"""What scores, as public functions take it."""


def scored(criterion: Scorer, inputs: Inputs, mlp_group_size: int = 1) -> tuple[Baseline, Scores]:
    """Score every unit once, for any number of plans; errors as of `plan`.

    An object keeps what it has been bound to. The recipe that comes back says how the budget is spread.
    """
    if not isinstance(criterion, tp.importance.Importance):
        recipe = _recipe_of(criterion)
        return recipe, unit_scores(recipe._unbound(inputs), inputs, mlp_group_size)
    built = as_criterion(criterion)
    recipe = Baseline(type(built), name=type(criterion).__name__)
    if not built.is_bound:
        # a copy, so that the next plan may bring other inputs
        return recipe, unit_scores(copy.copy(built), inputs, mlp_group_size)
    assert inputs.model is not None, "whoever asks for scores names the model"
    return recipe, unit_scores(built, inputs.model, mlp_group_size)


def needs_of(criterion: Scorer) -> frozenset[Need]:
    """What is to be calibrated for it: nothing for an object that has been given what it reads."""
    if not isinstance(criterion, tp.importance.Importance):
        return _recipe_of(criterion).needs
    built = as_criterion(criterion)
    return frozenset() if built.is_bound else built.needs


def _recipe_of(criterion: object) -> Baseline:
    if isinstance(criterion, str):
        return get_baseline(criterion)
    if isinstance(criterion, Baseline):
        return criterion
    if isinstance(criterion, type) and issubclass(criterion, Criterion):
        return Baseline(criterion, name=criterion.__name__)
    raise CriterionError(
        f"{criterion!r} is no criterion: expected a registered name, a Baseline, a Criterion or a torch-pruning "
        "importance; register a plain function first"
    )
