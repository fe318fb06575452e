"""What regular shapes cost in Boundary F1: the same cut with and without them, on the same validation images."""

from dataclasses import dataclass

from ....evaluation.intervals import NOT_SIGNIFICANT, TOO_FEW_GROUPS, Difference, verdict


@dataclass(frozen=True)
class Price:
    """What was measured.

    Attributes:
        bf1: Boundary F1 of the regular model minus that of the other one.
        images: Which images, in words.
        plain_removed: Share of the encoder's parameters that the other one lost.
    """

    bf1: Difference
    images: str
    plain_removed: float

    def text(self) -> str:
        """Say it in one line."""
        found = self.bf1
        said = verdict(found.low, found.high, found.groups, higher_is_better=True)
        few = f"{found.groups} group{'s' * (found.groups != 1)} of images, too few to tell"
        sure = {TOO_FEW_GROUPS: few, NOT_SIGNIFICANT: "within its noise"}.get(said, said)
        return (
            f"BF1 {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] (95 % interval) to the same cut without it, "
            f"with {self.plain_removed:.1%} of the parameters off, on {self.images}: {sure}"
        )
