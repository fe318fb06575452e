"""What a criterion may ask calibration to collect."""

from typing import ClassVar, Literal

from ._support.errors import RegistryError
from ._support.registry import unknown_name
from .collector_registry import get_collector, own_collectors

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


def need_of(kind: str, role: str) -> Need | None:
    """Return what asks for statistics of a kind and role; None where nothing does."""
    for name, collected in _COLLECTED.items():
        if collected == (kind, role):
            return Need(name)
    return Need(kind) if role == "adapted" and kind in own_collectors() else None
