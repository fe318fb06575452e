"""A pruning plan as plain data: what each block keeps, by original index, and why."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from .._support.errors import BudgetError, SurgeryError
from .._support.files import not_a_file, write_text_atomic
from .._support.records import FormatError, Record, RecordError, Whole, content_hash
from ..models.families import blocks_of

MAX_UNITS = 1 << 20  # far above any encoder; a damaged or hostile file must not eat memory
_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def check_size(size: int, what: str) -> None:
    """Refuse a number of units that no block has: not between 1 and `MAX_UNITS`."""
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MAX_UNITS:
        raise BudgetError(f"{what}: expected 1 to {MAX_UNITS} of them, got {str(size)[:20]}")


def check_indices(indices: Sequence[int], size: int, what: str) -> None:
    """Refuse indices that are not ascending integers below `size`; the message begins with `what`."""
    for index in indices:
        # bool is an int to Python, and never an index here
        if isinstance(index, bool) or not isinstance(index, int):
            raise BudgetError(f"{what}: {str(index)[:20]} is {type(index).__name__}, expected an int")
    if any(after <= before for before, after in pairwise(indices)):
        raise BudgetError(f"{what}: expected ascending indices without repeats")
    if indices and not (indices[0] >= 0 and indices[-1] < size):
        raise BudgetError(f"{what}: indices {indices[0]} to {indices[-1]} do not exist, expected 0 to {size - 1}")


def to_text(indices: Sequence[int]) -> str:
    """Write ascending indices as ranges, for example `0-3, 7`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def from_text(text: str, size: int, what: str) -> tuple[int, ...]:
    """Read what `to_text` wrote: ascending indices below `size`, which also bounds the memory that a text can ask for.

    Messages name the set by `what`.
    """
    indices: list[int] = []
    for part in text.split(",") if text.strip() else []:
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise BudgetError(f"{what}: cannot read {part.strip()[:40]!r}, expected indices and ranges such as 0-3, 7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or (indices and first <= indices[-1]):
            raise BudgetError(f"{what}: {part.strip()!r} is out of order, expected ascending indices without repeats")
        if last >= size:
            raise BudgetError(f"{what}: index {last} does not exist, expected 0 to {size - 1}")
        indices.extend(range(first, last + 1))
    return tuple(indices)


FORMAT = "medcore_prune.plan/1"
MAX_BLOCKS = 1024
MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class BlockPlan:
    """What one block keeps.

    Attributes:
        block: Index of the block.
        heads, neurons: Sizes before the cut.
        keep_heads, keep_neurons: Indices that stay, ascending, at least one each.

    Raises:
        BudgetError: Sizes or indices that cannot be.
    """

    block: int
    heads: int
    neurons: int
    keep_heads: tuple[int, ...]
    keep_neurons: tuple[int, ...]

    def __post_init__(self) -> None:
        for family in ("heads", "neurons"):
            what = f"block {self.block}, {family}"
            check_size(self.size(family), what)
            check_indices(self.keep(family), self.size(family), what)
            if not self.keep(family):
                raise BudgetError(f"{what}: nothing would stay, expected at least one")

    def size(self, family: str) -> int:
        """Units of `heads` or `neurons` before the cut."""
        return int(getattr(self, family))

    def keep(self, family: str) -> tuple[int, ...]:
        """Indices of `heads` or `neurons` that stay."""
        return tuple(getattr(self, f"keep_{family}"))

    @property
    def untouched(self) -> bool:
        """Whether the block keeps everything."""
        return len(self.keep_heads) == self.heads and len(self.keep_neurons) == self.neurons


@dataclass(frozen=True)
class Plan:
    """A pruning plan: one `BlockPlan` a block, made without touching the model.

    Attributes:
        level: The nominal level, or any short label.
        blocks: One entry a block of the encoder, shallowest first.
        criterion: What ranked the units; empty when nothing did.
        quotas: How the budget was spread: `uniform`, `sensitivity`, `ranked`, `searched`, or `global`.
        protected: Blocks that had to keep everything.
        only: The blocks that the level was asked of; None for all.
        notes: JSON values worth keeping, such as the request behind a saturated level.

    Raises:
        BudgetError: Blocks out of order, or indices that do not exist.
    """

    level: str
    blocks: tuple[BlockPlan, ...]
    criterion: str = ""
    quotas: str = ""
    protected: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.blocks) <= MAX_BLOCKS:
            raise BudgetError(f"a plan has 1 to {MAX_BLOCKS} blocks, got {len(self.blocks)}")
        if [block.block for block in self.blocks] != list(range(len(self.blocks))):
            raise BudgetError(f"the blocks of a plan must be numbered 0 to {len(self.blocks) - 1} in order")
        check_indices(self.protected, len(self.blocks), "protected blocks")
        check_indices(self.only or (), len(self.blocks), "only blocks")

    def __repr__(self) -> str:
        gone = [f"{self.removed(f)} of {sum(b.size(f) for b in self.blocks)} {f}" for f in ("heads", "neurons")]
        how = f", {self.quotas} quotas" if self.quotas else ""
        return f"Plan({self.level!r}, criterion {self.criterion!r}{how}: {' and '.join(gone)} go)"

    def removed(self, family: str) -> int:
        """Units of `heads` or `neurons` that go."""
        return sum(block.size(family) - len(block.keep(family)) for block in self.blocks)

    def effective_fraction(self, family: str) -> float:
        """Share of `heads` or `neurons` that goes, of those in the blocks that the level was asked of."""
        asked = range(len(self.blocks)) if self.only is None else self.only
        return self.removed(family) / max(1, sum(self.blocks[block].size(family) for block in asked))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over sizes and kept indices alone, equal for plans that cut the same, whatever led to them."""
        return content_hash([_StoredBlock.of_plan(block).values() for block in self.blocks])

    def check_fits(self, model: nn.Module) -> None:
        """Check that the plan was made for blocks of `model`'s sizes.

        Raises:
            SurgeryError: It was not; the message names the blocks that differ, up to five.
        """
        have, want = sizes_of(model), sizes_before(self)
        if len(have) != len(want):
            raise SurgeryError(
                f"the plan is for {len(want)} blocks, the model has {len(have)}: make one for this model"
            )
        wrong = [
            f"block {index} has {h[0]} heads and {h[1]} neurons, expected {w[0]} and {w[1]}"
            for index, (h, w) in enumerate(zip(have, want, strict=True))
            if h != w
        ]
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise SurgeryError(f"the plan does not fit: {'; '.join(wrong[:5])}{more}; make a plan for this model")

    def then(self, second: "Plan") -> "Plan":
        """Combine this plan with one for the model that it leaves, in the indices of the first model.

        Raises:
            SurgeryError: `second` was made for other sizes than this plan leaves.
        """
        if sizes_left(self) != sizes_before(second):
            raise SurgeryError("the second plan is for other sizes than the first leaves: make it for the pruned model")
        blocks = tuple(
            dataclasses.replace(
                before,
                keep_heads=tuple(before.keep_heads[index] for index in after.keep_heads),
                keep_neurons=tuple(before.keep_neurons[index] for index in after.keep_neurons),
            )
            for before, after in zip(self.blocks, second.blocks, strict=True)
        )
        notes = {"first": dict(self.notes), "second": dict(second.notes)}
        label = f"{self.level} then {second.level}"
        return Plan(label, blocks, criterion=second.criterion, quotas=second.quotas, notes=notes)

    def to_json(self) -> str:
        """Write the plan as JSON text, the effective fractions beside the nominal level."""
        about = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        effective = {family: round(self.effective_fraction(family), 6) for family in ("heads", "neurons")}
        blocks = tuple(_StoredBlock.of_plan(block).values() for block in self.blocks)
        stored = _StoredPlan(**{**about, "effective": effective, "blocks": blocks})
        return json.dumps(stored.values(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote, or a careful edit of it.

        Raises:
            BudgetError: It is no plan, or one whose entries, sizes or indices cannot be.
        """
        try:
            stored = _StoredPlan.of(_parse(text), "the plan")
            if len(stored.blocks) > MAX_BLOCKS:
                raise BudgetError(f"the plan lists {len(stored.blocks)} blocks: at most {MAX_BLOCKS} are read")
            found = [_StoredBlock.of(entry, f"block {i} of the plan") for i, entry in enumerate(stored.blocks)]
        except FormatError as error:
            raise BudgetError(
                f"plan format is {error.found!r}: this version reads {FORMAT!r}; make the plan again"
            ) from error
        except RecordError as error:
            raise BudgetError(str(error)) from error
        blocks = tuple(block.plan(f"block {i}") for i, block in enumerate(found))
        about = stored.criterion, stored.quotas, stored.protected, stored.only, stored.notes
        return cls(stored.level, blocks, *about)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file, whole or not at all."""
        write_text_atomic(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Read a plan file.

        Raises:
            BudgetError: The file is missing, too large, or not a plan; the message names it.
        """
        try:
            if os.path.exists(path) and (problem := not_a_file(path)):
                raise BudgetError(f"{problem}; expected a JSON file that Plan.save wrote")
            if Path(path).stat().st_size > MAX_BYTES:
                raise BudgetError(f"larger than {MAX_BYTES >> 20} MiB, which no plan is")
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BudgetError(
                f"cannot read plan {path}: {error.strerror}; expected a JSON file that Plan.save wrote"
            ) from error
        except (UnicodeDecodeError, BudgetError) as error:
            raise BudgetError(f"cannot read plan {path}: {error}") from error


def require_fits(plan: Plan, model: nn.Module) -> None:
    """Refuse what is no plan, such as the level that one is made of, and a plan for other sizes.

    Raises:
        SurgeryError: The message says how a plan is made, or names the blocks that differ.
    """
    if not isinstance(plan, Plan):
        raise SurgeryError(
            f"expected a plan, got {str(plan)[:80]!r}: mp.plan(model, level) makes one of a level such as 'h50_m70', "
            "mp.Plan.load reads one from a file"
        )
    plan.check_fits(model)


def sizes_of(model: nn.Module) -> list[tuple[int, int]]:
    """Heads and neurons of every block of a model."""
    return [(block.num_heads, block.neurons) for block in blocks_of(model)]


def sizes_before(plan: Plan) -> list[tuple[int, int]]:
    """Heads and neurons of every block of the model that a plan is for."""
    return [(block.heads, block.neurons) for block in plan.blocks]


def sizes_left(plan: Plan) -> list[tuple[int, int]]:
    """Heads and neurons that a plan leaves in every block."""
    return [(len(block.keep_heads), len(block.keep_neurons)) for block in plan.blocks]


@dataclass(frozen=True)
class _StoredBlock(Record, closed=True):
    """A block in a plan file: what stays is a line of ranges for each family, so that a diff shows what moved."""

    block: Whole
    heads: Whole
    neurons: Whole
    keep_heads: str
    keep_neurons: str

    @classmethod
    def of_plan(cls, block: BlockPlan) -> "_StoredBlock":
        kept = to_text(block.keep_heads), to_text(block.keep_neurons)
        return cls(block.block, block.heads, block.neurons, *kept)

    def plan(self, what: str) -> BlockPlan:
        # sizes first: they bound the memory that ranges can ask for
        check_size(self.heads, f"{what}, heads")
        check_size(self.neurons, f"{what}, neurons")
        heads = from_text(self.keep_heads, self.heads, f"{what}, heads")
        return BlockPlan(
            self.block, self.heads, self.neurons, heads, from_text(self.keep_neurons, self.neurons, f"{what}, neurons")
        )


@dataclass(frozen=True, kw_only=True)
class _StoredPlan(Record, format=FORMAT, closed=True):
    """A plan file; `effective` is for its reader, computed from the blocks, and never read back."""

    level: str
    criterion: str = ""
    quotas: str = ""
    protected: tuple[Any, ...] = ()
    only: tuple[Any, ...] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    effective: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Any, ...]


def _parse(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BudgetError(f"not a plan: expected JSON ({str(error)[:80]})") from error


def replay(plan: Plan | str | os.PathLike[str], model: nn.Module) -> Plan:
    """Return a stored plan after checking that it fits `model`; a path is loaded first."""
    loaded = plan if isinstance(plan, Plan) else Plan.load(plan)
    loaded.check_fits(model)
    return loaded
