"""Families of one's own; docs/extending.md has a whole one, which runs as a test."""

import pytest

from medcore_prune import register_family
from medcore_prune._support.errors import RegistryError
from medcore_prune.models.families import FAMILIES
from medcore_prune.models.segment_anything import SegmentAnythingFamily


class _Other(SegmentAnythingFamily):
    name = "other"

    def matches(self, model: object) -> bool:
        return False


def test_a_family_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(FAMILIES)
    monkeypatch.setattr("medcore_prune.models.families.FAMILIES", families := [*before])
    register_family(_Other())
    register_family(_Other())
    assert [family.name for family in families] == [*(family.name for family in before), "other"]


def test_what_is_no_family_is_refused() -> None:
    with pytest.raises(RegistryError, match="family dict lacks name, matches, encoder"):
        register_family({})  # type: ignore[arg-type]

    class Taken(SegmentAnythingFamily):
        pass

    with pytest.raises(RegistryError, match=r"is taken by SegmentAnythingFamily: choose another"):
        register_family(Taken())
