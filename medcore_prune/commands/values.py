"""Types of option values: read into what the library takes, refused as wrong usage, completed by the shell."""

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import click
from click.shell_completion import CompletionItem

from .._support.errors import BudgetError, MedcorePruneError
from ..models.sam_shape import SHAPES
from ..models.tiny_vit.shape import KINDS
from ..pruning.level import ONE_TIME_LEVELS, Level
from ..pruning.target import Target

_SMALLEST_GRID, _LARGEST_GRID = 8, 16384
_LARGEST_WHOLE = 2**31 - 1
_REGISTERED = re.compile(r'^@register_(?:baseline|criterion)\(\s*"(\w+)"', re.MULTILINE)
_METHODS = ("medcore_prune.baselines", "medcore_prune.criteria")


class Completed(click.ParamType):
    """A value of which some words are known; `several` of them may stand with commas.

    `places` is what the shell completes beside the words: `file`, `dir`, or nothing.
    """

    name = "words"
    words: Sequence[str] = ()
    several: bool = False
    places: str | None = None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the value, or the last part of a list."""
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        found = [CompletionItem(f"{before}{comma}{word}") for word in self.words if word.startswith(last)]
        return [*found, CompletionItem(incomplete, type=self.places)] if self.places else found


class Words(Completed):
    """Text, some of which is known."""

    def __init__(self, words: Sequence[str], places: str | None = None) -> None:
        self.words, self.places = words, places


class Whole(click.IntRange):
    """A whole number that can be a count or a seed; one above 2147483647 is refused, which help leaves out."""

    def __init__(self, least: int = 0) -> None:
        super().__init__(min=least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number, or end with a usage error."""
        number: int = super().convert(value, param, ctx)
        if number > _LARGEST_WHOLE:
            self.fail(f"{number} is too large: expected at most {_LARGEST_WHOLE}", param, ctx)
        return number


class Finite(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number, or end with a usage error."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {number}", param, ctx)
        return number


class Device(Words):
    """Where to compute; whether this machine has it is seen later."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or end with a usage error."""
        if not re.fullmatch(r"cpu|(cuda|mps|xpu)(:[0-9]{1,3})?", str(value)):
            self.fail(f"there is no device {str(value)[:80]!r}: expected cpu, or cuda on a GPU", param, ctx)
        return str(value)


class Parsed(Completed):
    """Text that a class of the library reads."""

    kind: ClassVar[type[Level] | type[Target]]
    other: ClassVar[type[Level] | type[Target]]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level | Target:
        """Read the text, or end with a usage error, which names the option that takes it where another does."""
        try:
            return self.kind.parse(value)
        except BudgetError as error:
            if self._is_other(value) and ctx is not None:
                name = self.other.__name__.lower()
                if any(each.name == name for each in ctx.command.params):
                    self.fail(f"{value!r} is a {name}: give --{name} {value}", param, ctx)
            self.fail(str(error), param, ctx)

    def _is_other(self, value: Any) -> bool:
        try:
            self.other.parse(value)
        except BudgetError:
            return False
        return True


class OneLevel(Parsed):
    """One level, such as `h50_m70`."""

    name = "level"
    words = tuple(map(str, ONE_TIME_LEVELS))
    kind, other = Level, Target


class TargetType(Parsed):
    """A target, such as `params=60%`."""

    name = "target"
    words = ("params=60%", "flops=60%", "latency=50%")
    kind, other = Target, Level


class GridSize(Completed):
    """Side of the grid that masks are compared on, or `original`."""

    name = "pixels|original"
    words = ("256", "original")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["original"]:
        """Read the size, or end with a usage error."""
        if value == "original":
            return "original"
        try:
            size = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of pixels nor original", param, ctx)
        if not _SMALLEST_GRID <= size <= _LARGEST_GRID:
            self.fail(f"{size} pixels: expected {_SMALLEST_GRID} to {_LARGEST_GRID}", param, ctx)
        return size


class MaskCut(Completed):
    """Stored value above which a mask is object, or `half` of its range."""

    name = "VALUE|half"
    words = ("half",)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Literal["half"]:
        """Read the value, or end with a usage error."""
        if value == "half":
            return "half"
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor half", param, ctx)
        if not 0 <= number < float("inf"):
            self.fail(f"{value}: expected at least 0", param, ctx)
        return number


class BoxType(click.ParamType):
    """A box in image pixels, `x0,y0,x1,y1`."""

    name = "X0,Y0,X1,Y1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Read the corners, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no box: expected four numbers such as 10,20,80,90", param, ctx)
        return x0, y0, x1, y1


class Shares(click.ParamType):
    """Three shares, such as `0.7,0.1,0.2`."""

    name = "A,B,C"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """Read the shares, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            train, validation, test = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected three numbers such as 0.7,0.1,0.2, got {value!r}", param, ctx)
        shares = (train, validation, test)
        # NaN is within no range
        if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            self.fail(f"expected three shares from 0 to 1 that sum to 1, got {value!r}", param, ctx)
        return shares


class MethodName(Completed):
    """A method or criterion, or several with commas; whether there is one of the name is looked up later.

    Plug-ins are loaded in between, so that their names are known.
    """

    name = "method"

    def __init__(self, several: bool = False) -> None:
        self.several = several

    @property
    def words(self) -> list[str]:  # type: ignore[override]
        """The built-in names, read from the source: importing it would take seconds."""
        places = (place for package in _METHODS for place in import_module(package).__path__)
        texts = (path.read_text(encoding="utf-8") for place in places for path in Path(place).glob("*.py"))
        return sorted({name for text in texts for name in _REGISTERED.findall(text)})

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | tuple[str, ...]:
        """Return the name, or the names, each once."""
        if not self.several:
            return str(value)
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(filter(None, (name.strip() for name in str(value).split(",")))))
        if not names:
            self.fail(f"{value!r} names none", param, ctx)
        return names


class ModelKind(Completed):
    """The name of a model that can be built without a file, of a plug-in's family too."""

    name = "model"
    words = (*SHAPES, *KINDS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Look the name up, or end with a usage error that names the nearest."""
        if value not in self.words:
            # which imports torch: help and completion do without
            from ..models.families import family_of_kind

            try:
                family_of_kind(value)
            except MedcorePruneError as error:
                self.fail(str(error), param, ctx)
        return str(value)


class KeyValue(click.ParamType):
    """`KEY=VALUE` for rare settings, each of its own type."""

    name = "KEY=VALUE"

    def __init__(self, known: Mapping[str, click.ParamType]) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Read the pair, or end with a usage error that names the nearest key."""
        if isinstance(value, tuple):
            return value
        key, separator, text = str(value).partition("=")
        if key not in self.known:
            near = get_close_matches(key, self.known, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(self.known)}"
            self.fail(f"there is no setting {key!r}: {hint}", param, ctx)
        if not (separator and text):
            self.fail(f"{value!r}: expected {key}=VALUE", param, ctx)
        try:
            return key, self.known[key].convert(text, None, None)
        except click.BadParameter as error:
            self.fail(f"{key}: {error.message}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the key."""
        return [CompletionItem(f"{key}=") for key in self.known if key.startswith(incomplete)]
