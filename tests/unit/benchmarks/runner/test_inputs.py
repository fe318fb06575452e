"""Models of a comparison: the reference goes with the model, whatever was cut from it before."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pocket_pair import SIZE, write_pair

from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.benchmarks.runner.inputs import load_inputs, load_models
from medcore_prune.benchmarks.runner.settings import COUNTS, Settings
from medcore_prune.checkpoints.pruned import save
from medcore_prune.checkpoints.sam import load_checkpoint
from medcore_prune.commands.cli import cli
from medcore_prune.models.families import geometry_of
from medcore_prune.models.fingerprint import model_hash
from medcore_prune.models.pairs import require_aligned
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import lineage_of, prune
from medcore_prune.zoo import pocket

PAIR = ("adapted", "reference")


def test_a_cut_model_is_compared_with_its_whole_reference_cut_likewise(tmp_path: Path) -> None:
    write_pair(tmp_path)
    whole = load_checkpoint(tmp_path / "adapted.pth")
    plan = make_plan(whole, "h25_m50")
    save(prune(whole, plan), tmp_path / "small.safetensors")
    settings = Settings(tmp_path, adapted=f"{tmp_path}/small.safetensors", reference=f"{tmp_path}/reference.pth")
    adapted, reference = load_models(settings)
    assert reference is not None
    require_aligned(adapted, reference)
    cut = lineage_of(reference).plan
    assert cut is not None
    assert cut.hash == plan.hash
    assert geometry_of(reference).image_size == SIZE


def test_images_that_choose_a_recovery_are_at_most_so_many(tmp_path: Path) -> None:
    """Of each set, and the same ones every time; those that are trained or judged on stay as they are."""
    write_pair(tmp_path)
    folder = tmp_path / "own"
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "20", "--set", "phantom_polyp_a", "--out", str(folder)])
    assert drawn.exit_code == 0, drawn.output
    common: dict[str, Any] = {"out": tmp_path, "adapted": tmp_path / "adapted.pth", "data": (f"own={folder}",)}
    whole, few, again = (load_inputs(Settings(**common, validation=count)).roles for count in (None, 1, 1))
    assert len(whole.validation["own"]) > len(few.validation["own"]) == 1
    assert few.validation["own"].ids == again.validation["own"].ids
    assert set(few.validation["own"].ids) < set(whole.validation["own"].ids)
    assert few.train["own"].ids == whole.train["own"].ids
    assert few.test["own"].ids == whole.test["own"].ids


def test_so_it_is_for_drawn_images() -> None:
    usual, few = (load_inputs(Settings(Path(), validation=count)).roles for count in (None, 3))
    assert {len(samples) for samples in usual.validation.values()} == {COUNTS["default"].validation}
    assert {len(samples) for samples in few.validation.values()} == {3}
    assert {len(samples) for samples in few.train.values()} == {COUNTS["default"].training}


def test_built_in_models_are_named_by_words(tmp_path: Path) -> None:
    for words in ({}, {"reference": "pocket"}, {"adapted": "pocket"}, {"adapted": "pocket", "reference": "pocket"}):
        adapted, reference = load_models(Settings(tmp_path, **words))
        assert reference is not None
        assert (model_hash(adapted), model_hash(reference)) == tuple(map(model_hash, map(pocket, PAIR)))
    write_pair(tmp_path)
    with pytest.raises(MedcorePruneError, match="give --adapted FILE"):
        load_models(Settings(tmp_path, reference=f"{tmp_path}/reference.pth"))
    # the built-in one at the model's own input side
    adapted, reference = load_models(Settings(tmp_path, adapted=f"{tmp_path}/adapted.pth", reference="pocket"))
    assert reference is not None
    assert model_hash(reference) == model_hash(pocket("reference", image_size=SIZE))
    _, none = load_models(Settings(tmp_path, adapted=f"{tmp_path}/adapted.pth"))
    assert none is None
