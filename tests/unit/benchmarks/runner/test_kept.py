"""Masks that a run keeps for its pictures."""

import numpy as np

from medcore_prune.benchmarks.runner.kept import KeptMasks
from medcore_prune.evaluation.packed import PackedMasks


def drawn(seed: int) -> PackedMasks:
    rng = np.random.default_rng(seed)
    return PackedMasks([rng.random((5 + place, 7)) > 0.5 for place in range(3)])


def test_masks_come_back_by_key_and_place() -> None:
    kept, masks = KeptMasks(), drawn(0)
    kept.keep("a", masks)
    kept.keep("b", drawn(1))
    found = kept.of("a", (2, 0))
    assert found is not None
    assert [each.tolist() for each in found] == [masks[2].tolist(), masks[0].tolist()]
    assert kept.of("a", ()) == []
    assert kept.of("c", (0,)) is None


def test_what_there_is_no_room_for_is_not_kept() -> None:
    masks = drawn(0)
    kept = KeptMasks(room_bytes=masks.nbytes)
    kept.keep("a", masks)
    kept.keep("b", drawn(1))
    assert kept.of("a", (0,)) is not None
    assert kept.of("b", (0,)) is None


def test_the_same_masks_take_room_once() -> None:
    masks, others = drawn(0), drawn(1)
    kept = KeptMasks(room_bytes=masks.nbytes + others.nbytes)
    for _ in range(3):
        kept.keep("a", masks)
    kept.keep("b", others)
    assert kept.of("b", (0,)) is not None
