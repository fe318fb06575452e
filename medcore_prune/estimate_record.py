"""What a piece of long work will take, as a record that prints itself, and the refusal of what does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.filesize import decimal

from ._support.errors import MedcorePruneError
from ._support.progress import duration
from .available_memory import available_bytes


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take.

    Attributes:
        work: Its name.
        passes: Images that go through a model, as often as they do.
        batch_size: Images at a time.
        fixed: Bytes that do not depend on the batch, by what they are for.
        per_image: Bytes for each image of a batch, by what they are for.
        disk_bytes: Bytes of files that will be written.
        seconds: How long, where a trial was wanted.
        device: Where the work runs.
        remedies: What else takes less memory.
    """

    work: str
    passes: int
    batch_size: int
    fixed: Mapping[str, int]
    per_image: Mapping[str, int]
    disk_bytes: int
    seconds: float | None
    device: str
    remedies: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """Most bytes of tensors at a time, beyond the loaded weights."""
        return sum(self.fixed.values()) + self.batch_size * sum(self.per_image.values())

    def parts(self) -> dict[str, int]:
        """Bytes of the whole batch by what they are for, largest first."""
        parts = {**self.fixed, **{name: self.batch_size * size for name, size in self.per_image.items()}}
        return dict(sorted(parts.items(), key=lambda item: -item[1]))

    def largest_batch(self, limit_bytes: int) -> int:
        """Most images a batch that fit into so many bytes; 0 where none does."""
        left = limit_bytes - sum(self.fixed.values())
        return max(0, left // max(1, sum(self.per_image.values())))

    def __str__(self) -> str:
        detail = ", ".join(f"{name} {decimal(size)}" for name, size in self.parts().items() if size)
        lines = [f"{self.work}: {self.passes} passes, {self.batch_size} at a time"]
        if self.seconds is not None:
            lines.append(f"about {duration(self.seconds)}")
        lines.append(f"{decimal(self.memory_bytes)} of memory ({detail})")
        if self.disk_bytes:
            lines.append(f"{decimal(self.disk_bytes)} on disk")
        return ", ".join(lines)


def require_memory(estimate: Estimate, limit_bytes: int | None = None) -> None:
    """Refuse work that would not fit into memory, before it starts and is killed.

    Args:
        estimate: Of the work.
        limit_bytes: What may be taken; by default what is available on the estimate's device.

    Raises:
        MedcorePruneError: It does not fit; the message names need and limit, and what to do.
    """
    limit = available_bytes(estimate.device) if limit_bytes is None else limit_bytes
    if limit is None or estimate.memory_bytes <= limit:
        return
    batch = estimate.largest_batch(limit)
    smaller = [f"a batch of {batch} (expected to fit)"] if batch else []
    if not batch and estimate.batch_size > 1:
        smaller = ["a batch of 1 (not enough by itself)"]
    raise MedcorePruneError(
        f"{estimate.work} needs about {decimal(estimate.memory_bytes)} of memory and {estimate.device} has "
        f"{decimal(limit)} left: use {', '.join((*smaller, *estimate.remedies))}"
    )
