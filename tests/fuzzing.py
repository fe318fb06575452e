"""Strategies and helpers of the tests that give readers files of any content."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import medcore_prune as mp

quick = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# where, how many bytes go, what comes in their place
Edits = list[tuple[float, int, bytes]]
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 64), st.binary(max_size=16)), min_size=1, max_size=4)


def edited(content: bytes, changes: Edits) -> bytes:
    for where, gone, new in changes:
        at = int(where * len(content))
        content = content[:at] + new + content[at + gone :]
    return content


def tolerant(read: Callable[[Any], Any], source: Any) -> None:
    """Read; an error of the package, in one line, is an answer, any other is not."""
    said = "read"
    try:
        read(source)
    except mp.MedcorePruneError as error:
        said = str(error).strip()
    assert said
    assert "\n" not in said


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, child in inside for place in _places(child, (*at, key)))]


def replaced_somewhere(content: Any, choice: int, value: Any) -> Any:
    """Put a value in the place of what a number chooses."""
    holder = {"root": content}
    places = _places(holder)[1:]
    *parents, last = places[choice % len(places)]
    target: Any = holder
    for key in parents:
        target = target[key]
    target[last] = value
    return holder["root"]
