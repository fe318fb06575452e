"""Plans as data: what they refuse, how they are stored, combined and compared."""

import dataclasses
import json
from pathlib import Path

import pytest

from medcore_prune._support.errors import BudgetError, SurgeryError
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.plan import BlockPlan, Plan, replay
from medcore_prune.pruning.planning import make_plan
from tests.tiny import TINY


def block(index: int = 0, keep_heads: tuple[int, ...] = (0, 2), keep_neurons: tuple[int, ...] = (1, 2, 3)) -> BlockPlan:
    return BlockPlan(index, 4, 6, keep_heads, keep_neurons)


def plan() -> Plan:
    blocks = (block(0), block(1, (0, 1, 2, 3), tuple(range(6))))
    return Plan("h50_m50", blocks, "zero", "uniform", protected=(1,), notes={"seed": 3})


def test_a_plan_survives_its_json(tmp_path: Path) -> None:
    plan().save(tmp_path / "deep" / "plan.json")
    assert Plan.load(tmp_path / "deep" / "plan.json") == plan()
    assert Plan.load(str(tmp_path / "deep" / "plan.json")).hash == plan().hash


def test_the_file_is_readable_and_shows_what_is_effective() -> None:
    record = json.loads(plan().to_json())
    assert record["blocks"][0] == {"block": 0, "heads": 4, "neurons": 6, "keep_heads": "0, 2", "keep_neurons": "1-3"}
    assert record["effective"] == {"heads": 0.25, "neurons": 0.25}
    assert record["level"] == "h50_m50"


def test_a_moved_head_is_one_line_of_the_diff() -> None:
    moved = dataclasses.replace(plan(), blocks=(block(0, (0, 3)), plan().blocks[1]))
    lines = zip(plan().to_json().splitlines(), moved.to_json().splitlines(), strict=True)
    assert [before.strip() for before, after in lines if before != after] == ['"keep_heads": "0, 2",']


def test_effective_fractions_are_of_the_blocks_asked() -> None:
    assert plan().effective_fraction("heads") == 2 / 8
    assert dataclasses.replace(plan(), only=(0,)).effective_fraction("heads") == 2 / 4
    assert plan().removed("neurons") == 3


def test_the_hash_is_of_what_is_cut_alone() -> None:
    relabelled = dataclasses.replace(plan(), level="other", criterion="reset", quotas="", protected=(), notes={})
    assert relabelled.hash == plan().hash
    assert dataclasses.replace(plan(), blocks=(block(0, (0, 3)), plan().blocks[1])).hash != plan().hash


@pytest.mark.parametrize(
    ("keep_heads", "keep_neurons", "message"),
    [
        ((), (0,), "block 0, heads: nothing would stay"),
        ((0,), (), "block 0, neurons: nothing would stay"),
        ((0, 4), (0,), "indices 0 to 4 do not exist, expected 0 to 3"),
        ((0,), (-1, 2), "indices -1 to 2 do not exist"),
        ((2, 0), (0,), "ascending"),
        ((0,), (3, 3), "without repeats"),
    ],
)
def test_blocks_keep_existing_units_in_order(
    keep_heads: tuple[int, ...], keep_neurons: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BudgetError, match=message):
        block(0, keep_heads, keep_neurons)


def test_blocks_come_in_order_and_exist() -> None:
    with pytest.raises(BudgetError, match="numbered 0 to 1 in order"):
        Plan("x", (block(1), block(0)))
    with pytest.raises(BudgetError, match="1 to 1024 blocks, got 0"):
        Plan("x", ())
    with pytest.raises(BudgetError, match="protected blocks: indices 0 to 2 do not exist"):
        Plan("x", (block(0),), protected=(0, 2))
    with pytest.raises(BudgetError, match="only blocks"):
        Plan("x", (block(0),), only=(1,))


def edited(**changes: object) -> str:
    return json.dumps({**json.loads(plan().to_json()), **changes})


def edited_block(**changes: object) -> str:
    blocks = json.loads(plan().to_json())["blocks"]
    return edited(blocks=[{**blocks[0], **changes}, blocks[1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        ("<!DOCTYPE html>", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "the plan is list: expected an object"),
        ("{}", "plan format is 'None'"),
        (edited(format="medcore_prune.plan/99"), "this version reads 'medcore_prune.plan/1'"),
        (edited(notes={"seed": float("nan")}), "NaN is no JSON number"),
        (edited(extra=1), r"unknown entries \['extra'\]"),
        (edited(level=5), "'level' is int, expected str"),
        (edited(blocks={}), "'blocks' is dict, expected list"),
        (edited(blocks=[]), "1 to 1024 blocks, got 0"),
        (edited(blocks=[0] * 1025), "lists 1025 blocks"),
        (edited(blocks=[5]), "block 0 of the plan is int"),
        (edited(protected=["a"]), "protected blocks: a is str"),
        (edited(protected=None), "'protected' is NoneType, expected list"),
        (edited(only=3), "'only' is int, expected list"),
        (edited_block(heads=True), "'heads' is bool, expected int"),
        (edited_block(heads=0), "block 0, heads: expected 1 to 1048576 of them, got 0"),
        (edited_block(neurons=10**12), "block 0, neurons: expected 1 to 1048576"),
        (edited_block(block=7), "numbered 0 to 1 in order"),
        (edited_block(keep_heads="0-4"), "block 0, heads: index 4 does not exist"),
        (edited_block(keep_heads="2, 1"), "out of order"),
        (edited_block(keep_heads=""), "nothing would stay"),
        (edited_block(keep_heads=[0]), "'keep_heads' is list, expected str"),
        (edited_block(keep_tails="0"), r"unknown entries \['keep_tails'\]"),
    ],
)
def test_damaged_plans_are_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Plan.from_json(text)


def test_missing_entries_are_named() -> None:
    record = json.loads(plan().to_json())
    del record["blocks"][1]["neurons"], record["blocks"][1]["keep_heads"]
    with pytest.raises(BudgetError, match=r"block 1 of the plan lacks \['keep_heads', 'neurons'\]"):
        Plan.from_json(json.dumps(record))


def test_a_hand_made_plan_needs_only_level_and_blocks() -> None:
    record = {key: value for key, value in json.loads(plan().to_json()).items() if key in ("format", "level", "blocks")}
    assert Plan.from_json(json.dumps(record)).hash == plan().hash


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"cannot read plan .*nowhere\.json: No such file"):
        Plan.load(tmp_path / "nowhere.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BudgetError, match=r"cannot read plan .*binary\.json"):
        Plan.load(tmp_path / "binary.json")
    with open(tmp_path / "huge.json", "wb") as sparse:
        sparse.truncate((1 << 26) + 1)
    with pytest.raises(BudgetError, match=r"huge\.json: larger than 64 MiB"):
        Plan.load(tmp_path / "huge.json")


def test_replay_takes_the_same_units_again(tmp_path: Path) -> None:
    model = build_sam(TINY, device="meta")
    made = make_plan(model, "h50_m50")
    made.save(tmp_path / "plan.json")
    assert replay(tmp_path / "plan.json", model) == made


def test_a_plan_for_other_sizes_is_refused_with_the_blocks() -> None:
    with pytest.raises(SurgeryError, match="the plan is for 2 blocks, the model has 4"):
        replay(plan(), build_sam(TINY, device="meta"))
    narrow = dataclasses.replace(TINY, num_heads=2)
    made = make_plan(build_sam(narrow, device="meta"), "h50_m50")
    with pytest.raises(SurgeryError, match="block 0 has 4 heads and 96 neurons, expected 2 and 96; block 1"):
        replay(made, build_sam(TINY, device="meta"))


def test_combining_speaks_in_the_first_models_indices() -> None:
    first = Plan("a", (BlockPlan(0, 4, 6, (1, 2, 3), (0, 2, 4, 5)),))
    second = Plan("b", (BlockPlan(0, 3, 4, (0, 2), (1, 3)),), criterion="zero")
    both = first.then(second)
    assert both.blocks == (BlockPlan(0, 4, 6, (1, 3), (2, 5)),)
    assert (both.level, both.criterion) == ("a then b", "zero")


def test_combining_needs_the_sizes_that_are_left() -> None:
    with pytest.raises(SurgeryError, match="make it for the pruned model"):
        plan().then(plan())


def test_untouched_blocks_say_so() -> None:
    assert [entry.untouched for entry in plan().blocks] == [False, True]
