"""Models of a comparison: the reference goes with the model, whatever was cut from it before."""

from pathlib import Path

import pytest
from pocket_pair import SIZE, write_pair

from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.benchmarks.runner.inputs import load_models
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.checkpoints.pruned import save
from medcore_prune.checkpoints.sam import load_checkpoint
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
