"""Records: JSON objects in this package's files, checked against what a frozen dataclass says of its fields.

A file that is damaged, of another version, or edited by hand is refused with the entry that is wrong, in one line. A
file of an earlier version is read: an entry whose field has a default may be missing, and an integer stays one.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, PlainValidator, Strict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

Whole = Annotated[int, Strict()]
"""An integer; `true`, `3.0` and `"3"` are none."""
Flag = Annotated[bool, Strict()]
"""`true` or `false`."""


def _finite(value: object) -> object:
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        return value
    raise ValueError("expected a finite number")


Number = Annotated[float, PlainValidator(_finite)]
"""A finite number; an integer stays one, so that it is written again as it was read."""


def within(least: int, most: int, whole: bool = False) -> PlainValidator:
    """Take numbers, or whole numbers alone, from `least` to `most`: a hostile file must not ask for more."""
    kinds = (int,) if whole else (int, float)

    def check(value: Any) -> Any:
        if type(value) in kinds and least <= value <= most:
            return value
        raise ValueError(f"expected a {'whole ' if whole else ''}number from {least} to {most}")

    return PlainValidator(check)


def matching(pattern: str, name: str) -> AfterValidator:
    """Take texts of a pattern, which are called `name`."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value):
            return value
        raise ValueError(f"no {name}")

    return AfterValidator(check)


class RecordError(ValueError):
    """JSON values are not such a record; the message is one line.

    Attributes:
        names: Entries of the record that are wrong, missing or unknown, in order.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class FormatError(RecordError):
    """The values are of another format, or say none.

    Attributes:
        found: What they say.
    """

    def __init__(self, found: object, expected: object) -> None:
        self.found = str(found)[:_SHOWN]
        super().__init__(f"format {self.found}, expected {expected}", ("format",))


class Record:
    """Base of frozen dataclasses that stand in files as JSON objects.

    Args:
        format: Of a subclass: what its entry `format` says, where it has one.
        closed: Of a subclass: whether entries that are no fields are refused; else they are passed over.
    """

    FORMAT: ClassVar[str | int | None]

    def __init_subclass__(cls, format: str | int | None = None, closed: bool = False) -> None:
        super().__init_subclass__()
        cls.FORMAT = format
        # pydantic looks for it
        cls.__pydantic_config__ = {"extra": "forbid" if closed else "ignore"}  # type: ignore[attr-defined]

    @classmethod
    def of(cls, values: object, what: str = "it") -> Self:
        """Make the record of JSON values, as a parser gives them; they are called `what` in messages.

        A `FormatError` says another format than the class has; a `RecordError`, that they are no object, or entries
        that are missing, unknown or cannot be.
        """
        if cls.FORMAT is not None and isinstance(values, Mapping):
            if values.get("format") != cls.FORMAT:
                raise FormatError(values.get("format"), cls.FORMAT)
            values = {name: value for name, value in values.items() if name != "format"}
        try:
            made: Self = _checker(cls).validate_python(values)  # type: ignore[arg-type]
        except ValidationError as error:
            faults = error.errors(include_url=False)
            names = dict.fromkeys(str(fault["loc"][0]) for fault in faults if fault["loc"])
            raise RecordError(_line(faults, what), list(names)) from error
        return made

    def values(self) -> dict[str, Any]:
        """Return the JSON values that `of` makes the record of, the format first, then the fields in order."""
        said = {} if self.FORMAT is None else {"format": self.FORMAT}
        return said | {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def content_hash(values: Any) -> str:
    """SHA-256 (hex) of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.values()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


@cache
def _checker(kind: type[Record]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


_SHOWN = 60
_KINDS = {
    "int_type": "int",
    "bool_type": "bool",
    "string_type": "str",
    "list_type": "list",
    "tuple_type": "list",
    "dict_type": "dict",
    "mapping_type": "dict",
    "dataclass_type": "dict",
}
"""What pydantic calls a value of another kind, and the kind that was expected, by the name that Python gives it."""


def _line(faults: Sequence[ErrorDetails], what: str) -> str:
    """Say what is wrong with the first object that has a fault."""
    *holder, name = faults[0]["loc"] or (None,)
    where = " of ".join([*(str(step) for step in reversed(holder)), what])
    kind, value = faults[0]["type"], faults[0]["input"]
    here = [fault for fault in faults if list(fault["loc"][:-1]) == holder]
    lacking = sorted(str(fault["loc"][-1]) for fault in here if fault["type"] == "missing")
    unknown = sorted(str(fault["loc"][-1])[:40] for fault in here if fault["type"] == "unexpected_keyword_argument")
    if name is None:
        said = f"{what} is {type(value).__name__}: expected an object"
    elif lacking or unknown:
        lacks = f"lacks {(lacking if lacking[1:] else lacking[0])!r}" if lacking else ""
        said = f"{where} {' and '.join(filter(None, (lacks, f'has unknown entries {unknown[:5]}' if unknown else '')))}"
    elif kind in _KINDS:
        said = f"{where}: {name!r} is {type(value).__name__}, expected {_KINDS[kind]}"
    else:
        said = f"{where}: {name} is {repr(value)[:_SHOWN]}, {faults[0]['msg'].removeprefix('Value error, ')}"
    # a name in a file may hold the end of a line
    return " ".join(said.split())
