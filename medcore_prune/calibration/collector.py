"""The contract of what calibration can collect: how each layer's view of a batch becomes sums over samples.

Sums are additive: those of two sets of samples added are those of the union. A collector says what its tensors are
called and how large they are; they may be shaped like a layer's weight, one number a unit, or anything else.
"""

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from .._support.errors import RegistryError, StatisticsError
from .._support.registry import BUILT_IN, Registry, code_of, failures_named, unknown_name
from ..models.families import blocks_of
from .layer_gradients import LayerBatch

LOSSES = ("plain", "band")
"""The two parts of Eq. 9, in the order in which collectors get their gradients."""

LINEAR: Mapping[str, int] = {"plain": 0, "band": 1}
"""Sums of what is linear in the gradient, with the power of lambda_B that each is multiplied by."""

SQUARES: Mapping[str, int] = {"plain_plain": 0, "plain_band": 1, "band_band": 2}
"""Likewise of what is quadratic: (g0 + lambda_B g1)^2 = g0^2 + lambda_B 2 g0 g1 + lambda_B^2 g1^2."""

CONSTANT: Mapping[str, int] = {"total": 0}
"""Likewise of what does not depend on the loss."""


class Collector(ABC):
    """One kind of statistics, collected of one model; a new object for each run.

    Args:
        model: Whose layers are watched.
        reference: The checkpoint that it was fine-tuned from, where `reads_reference`.

    Attributes:
        powers: Names of the sums, and the power of lambda_B that each is multiplied by when they are added up.
        reads_reference: Whether the sums depend on the reference's weights.

    Raises:
        StatisticsError: The reference is needed and absent.
    """

    powers: ClassVar[Mapping[str, int]]
    reads_reference: ClassVar[bool] = False

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        if self.reads_reference and reference is None:
            raise StatisticsError(f"{type(self).__name__} takes a reference model: give reference=")

    @classmethod
    def sums(cls, losses: Sequence[str]) -> list[str]:
        """Names of the sums that these losses allow: without the band, those that lambda_B = 0 needs."""
        return [name for name, power in cls.powers.items() if not power or LOSSES[1] in losses]

    @classmethod
    @abstractmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that one sum holds, by name; names begin with a layer's and a dot."""

    @abstractmethod
    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        """What one layer's view of a batch adds.

        Args:
            layer_name: Qualified name; each prunable layer comes once a batch, deepest first.
            batch: Inputs, and output gradients of each loss; copies for a collector that is not built in, to change at
                will.

        Yields:
            `<sum>/<name>` and what is added to it, of the shape that `shapes` says, real and finite.
        """


def squares(values: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Sum products of two losses' quantities over samples, both orders of a mixed product in one.

        sum_b v_i[b] v_i[b],   sum_b 2 v_i[b] v_j[b] for i < j

    Quantities are (B, ...) each, in the order of `LOSSES`; sums come with their names in `SQUARES`.
    """
    for (i, first), (j, second) in combinations_with_replacement(list(enumerate(values)), 2):
        yield f"{LOSSES[i]}_{LOSSES[j]}", (first * second).sum(0).mul_(1 if i == j else 2)


def check_losses(losses: Sequence[str]) -> None:
    """Refuse anything but the plain loss alone, or both parts in the order of `LOSSES`."""
    if tuple(losses) not in (LOSSES, LOSSES[:1]):
        raise StatisticsError(f"losses {tuple(losses)!r}: expected ('plain',) or ('plain', 'band')")


def stored_shapes(collector: type[Collector], losses: Sequence[str], model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that a collector stores of a model under these losses, by key `<sum>/<name>`."""
    shapes = collector.shapes(model)
    return {f"{each}/{name}": shape for each in collector.sums(losses) for name, shape in shapes.items()}


def prunable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that pruning cuts, by qualified name, shallowest block first."""
    return {block.layer_names[role]: layer for block in blocks_of(model) for role, layer in block.layers.items()}


class LikeWeights(Collector):
    """Sums shaped like every prunable layer's weight and bias, `<layer>.weight` and `<layer>.bias`."""

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {
            f"{layer_name}.{kind}": tuple(parameter.shape)
            for layer_name, layer in prunable_layers(model).items()
            for kind, parameter in layer.named_parameters(recurse=False)
        }


class Weights(LikeWeights):
    """Layout of a copy of the prunable weights, which is stored beside the sums; nothing is added to it."""

    powers: ClassVar[Mapping[str, int]] = {"value": 0}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        yield from ()


V = TypeVar("V", bound=type[Collector])


def _checked(name: str, declared: Any) -> type[Collector]:
    if not (isinstance(declared, type) and issubclass(declared, Collector)):
        raise RegistryError(f"collector {name!r}: expected a subclass of Collector, got {declared!r}")
    if inspect.isabstract(declared) or not getattr(declared, "powers", None):
        raise RegistryError(f"collector {name!r} lacks powers, shapes or contribute: see medcore_prune.Collector")
    return declared


collectors: Registry[type[Collector]] = Registry(
    "collector", "medcore_prune.calibration.collectors", "medcore_prune.calibration.collectors", prepare=_checked
)
"""All collectors: built-in ones, those of installed packages (entry points of this group), and a user's own."""


def register_collector(name: str, *, source: str = "") -> Callable[[V], V]:
    """Return a decorator that registers a subclass of `Collector`; criteria ask for its sums by `Need(name)`.

    Args:
        name: Lower-case letters, digits and underscores.
        source: A paper or a project.

    Returns:
        The decorator, which hands the class back unchanged.

    Raises:
        RegistryError: A bad or taken name, or something that is no collector.
    """
    return collectors.register(name, source=source)


def get_collector(name: str) -> type[Collector]:
    """Return the class of collectors registered under `name`.

    Args:
        name: As registered, or as a `Need` names it.

    Returns:
        The class.

    Raises:
        RegistryError: Unknown; the message has the nearest match and all names.
    """
    return collectors.get(name)


def own_collectors() -> list[str]:
    """Return the names of collectors that are not built in, sorted."""
    return [name for name in collectors.available() if collectors.info(name).origin != BUILT_IN]


def is_own(name: str) -> bool:
    """Whether a collector of this name is registered and not built in."""
    return name in collectors and collectors.info(name).origin != BUILT_IN


def faults_named(name: str) -> AbstractContextManager[None]:
    """Name a collector that is not built in, and the place, in one line for whatever is raised within.

    What fails in a built-in one is a fault of the program, and passes.
    """
    return failures_named(f"collector {name!r}", StatisticsError) if is_own(name) else nullcontext()


def shapes_of(name: str, losses: Sequence[str], model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return `stored_shapes` of a collector by its name; what one of a user's own raises is named."""
    with faults_named(name):
        return stored_shapes(get_collector(name), losses, model)


def layout_of(kind: str) -> type[Collector] | None:
    """Return the class that says how statistics of a kind are laid out; None where no such collector is known."""
    if kind == "weights":
        return Weights
    return collectors.get(kind) if kind in collectors else None


def version_of(name: str) -> str:
    """SHA-256 (hex) of a collector's code, so that sums of an older one are not taken for its own; "" if built in."""
    entry = collectors.info(name)
    if entry.origin == BUILT_IN:
        return ""
    return hashlib.sha256(code_of(entry.value).encode()).hexdigest()


Role = Literal["adapted", "reference"]


class Need(str):
    """One kind of statistics; a criterion lists those that it reads.

    It is its own name: one of those below, or that of a collector that a user registered, whose sums over the adapted
    model it is.

    Attributes:
        FISHER: Diagonal Fisher of the adapted model, F_M of Eq. 10.
        REFERENCE_FISHER: Diagonal Fisher of the reference on the same samples, F_S of Eq. 11.
        REFERENCE_WEIGHTS: The reference's prunable weights, theta_S of Eq. 12.
        MEAN_GRADIENT: Gradient of the mean loss of the adapted model, which first-order Taylor scores read.
        DIRECTIONAL_ZERO: Mean squared slope along the removal of each unit; a few numbers a unit.
        DIRECTIONAL_RESET: Mean squared slope along each unit's way back to the reference; likewise.
        INPUT_SQUARES: Mean square of each input channel of `proj` and `lin2`.
        GRAM: Gram matrix of those inputs.
        WEIGHTED_GRAM: The same with tokens weighed by the squared gradient of the layer's output.

    Raises:
        RegistryError: No collector has this name.
    """

    __slots__ = ()

    FISHER: ClassVar["Need"]
    REFERENCE_FISHER: ClassVar["Need"]
    REFERENCE_WEIGHTS: ClassVar["Need"]
    MEAN_GRADIENT: ClassVar["Need"]
    DIRECTIONAL_ZERO: ClassVar["Need"]
    DIRECTIONAL_RESET: ClassVar["Need"]
    INPUT_SQUARES: ClassVar["Need"]
    GRAM: ClassVar["Need"]
    WEIGHTED_GRAM: ClassVar["Need"]

    def __new__(cls, name: str) -> "Need":
        if name not in _COLLECTED and name not in (known := own_collectors()):
            raise RegistryError(unknown_name("need", name, sorted({*_COLLECTED, *known})))
        return super().__new__(cls, name)

    def __repr__(self) -> str:
        return f"Need.{self.upper()}" if self in _COLLECTED else f"Need({str(self)!r})"

    @property
    def kind(self) -> str:
        """Name of the collector whose sums it is; `weights` for a copy of the weights, which nothing sums."""
        return _COLLECTED.get(self, (str(self), "adapted"))[0]

    @property
    def role(self) -> Role:
        """The model that it is collected of."""
        return _COLLECTED[self][1] if self in _COLLECTED else "adapted"

    @property
    def summed(self) -> bool:
        """Whether a collector adds it up over samples."""
        return self.kind != "weights"

    @property
    def needs_reference(self) -> bool:
        """Whether collecting it takes a reference model."""
        return self.role == "reference" or get_collector(self.kind).reads_reference


_COLLECTED: dict[str, tuple[str, Role]] = {
    "fisher": ("fisher", "adapted"),
    "reference_fisher": ("fisher", "reference"),
    "reference_weights": ("weights", "reference"),
    "mean_gradient": ("gradient", "adapted"),
    "directional_zero": ("directional_zero", "adapted"),
    "directional_reset": ("directional_reset", "adapted"),
    "input_squares": ("input_squares", "adapted"),
    "gram": ("gram", "adapted"),
    "weighted_gram": ("weighted_gram", "adapted"),
}

for _name in _COLLECTED:
    setattr(Need, _name.upper(), Need(_name))


def wanted_needs(needs: Collection[str] | None, has_reference: bool) -> frozenset[Need]:
    """What to collect; by default the Fisher, and the reference's Fisher and weights where there is one."""
    if needs is not None:
        return frozenset(map(Need, needs))
    return frozenset({Need.FISHER, *((Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS) if has_reference else ())})


def need_of(kind: str, role: str) -> Need | None:
    """Return what asks for statistics of a kind and role; None where nothing does."""
    for name, collected in _COLLECTED.items():
        if collected == (kind, role):
            return Need(name)
    return Need(kind) if role == "adapted" and kind in own_collectors() else None
