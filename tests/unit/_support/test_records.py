"""Records: what JSON values become one, what is said of the others, and what is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from medcore_prune._support.records import (
    Flag,
    FormatError,
    Number,
    Record,
    RecordError,
    Whole,
    content_hash,
    matching,
    within,
)


@dataclass(frozen=True)
class Place(Record, closed=True):
    row: str
    seed: Whole


@dataclass(frozen=True)
class Result(Record, format="results/1"):
    place: Place
    means: Mapping[str, Number]
    shape: tuple[Whole, ...] = ()
    size: Annotated[int, within(1, 10, whole=True)] = 3
    share: Annotated[float, within(0, 1)] = 0.5
    digest: Annotated[str, matching("[0-9a-f]{4}", "hash")] = "abcd"
    done: Flag = False
    notes: Mapping[str, Any] = field(default_factory=dict)


WELL = {"format": "results/1", "place": {"row": "a", "seed": 1}, "means": {"dice": 1, "iou": 0.5}}


def test_values_become_a_record_and_come_back() -> None:
    values = {
        **WELL,
        "shape": [1, 2],
        "size": 1,
        "share": 1,
        "digest": "0123",
        "done": True,
        "notes": {"\udce4": ["\udce4", None, {"a": float("inf")}]},
    }
    made = Result.of(values)
    assert (made.place, made.shape, made.notes) == (Place("a", 1), (1, 2), values["notes"])
    assert made.values() == values
    assert list(made.values()) == list(values)
    # an integer stays one
    assert type(made.values()["means"]["dice"]) is int


def test_entries_with_a_default_may_be_missing_and_others_are_passed_over() -> None:
    assert Result.of({**WELL, "newer": 5}) == Result(Place("a", 1), {"dice": 1, "iou": 0.5})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"place": {"row": "a", "seed": True}}, "place of it: 'seed' is bool, expected int"),
        ({"place": {"row": "a", "seed": 1.0}}, "place of it: 'seed' is float, expected int"),
        ({"place": {"row": 5, "seed": 1}}, "place of it: 'row' is int, expected str"),
        ({"place": {"row": "a"}}, "place of it lacks 'seed'"),
        ({"place": {}}, "place of it lacks ['row', 'seed']"),
        ({"place": {"row": "a", "sead": 1}}, "place of it lacks 'seed' and has unknown entries ['sead']"),
        ({"place": {"row": "a", "seed": 1, "x": 1, "b": 1}}, "place of it has unknown entries ['b', 'x']"),
        ({"place": []}, "it: 'place' is list, expected dict"),
        ({"means": 5}, "it: 'means' is int, expected dict"),
        ({"means": {"dice": float("nan")}}, "means of it: dice is nan, expected a finite number"),
        ({"means": {"dice\n": True}}, "means of it: dice is True, expected a finite number"),
        ({"means": {"dice": 10**400}}, f"means of it: dice is 1{'0' * 59}, expected a finite number"),
        ({"shape": 3}, "it: 'shape' is int, expected list"),
        ({"shape": [1, "2"]}, "shape of it: 1 is str, expected int"),
        ({"size": 11}, "it: size is 11, expected a whole number from 1 to 10"),
        ({"size": 2.0}, "it: size is 2.0, expected a whole number from 1 to 10"),
        ({"share": 1.5}, "it: share is 1.5, expected a number from 0 to 1"),
        ({"digest": "xyz"}, "it: digest is 'xyz', no hash"),
        ({"digest": "a\nb\n"}, "it: digest is 'a\\nb\\n', no hash"),
        ({"done": "yes"}, "it: 'done' is str, expected bool"),
        ({"done": 1}, "it: 'done' is int, expected bool"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordError) as caught:
        Result.of({**WELL, **change})
    assert str(caught.value) == says
    assert caught.value.names == tuple(change)


def test_all_wrong_entries_are_named_in_order() -> None:
    with pytest.raises(RecordError, match=r"^the result lacks 'means'$") as caught:
        Result.of({"format": "results/1", "place": 3, "size": 0}, "the result")
    assert caught.value.names == ("place", "means", "size")


@pytest.mark.parametrize("values", [None, [], "text", 3.5])
def test_what_is_no_object(values: Any) -> None:
    with pytest.raises(RecordError, match=rf"^the result is {type(values).__name__}: expected an object$"):
        Result.of(values, "the result")


@pytest.mark.parametrize("found", ["results/2", None, {"a": 1}])
def test_another_format_comes_before_all_else(found: Any) -> None:
    with pytest.raises(FormatError, match="expected results/1") as caught:
        Result.of({"format": found})
    assert caught.value.found == str(found)


def test_the_hash_is_of_the_content() -> None:
    assert content_hash({"a": 1, "b": [2, None]}) == content_hash({"b": (2, None), "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 1.0})
    assert content_hash([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
