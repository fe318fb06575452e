"""Models of a comparison: the reference goes with the model, whatever was cut from it before."""

from pathlib import Path

from pocket_pair import SIZE, write_pair

from medcore_prune.benchmarks.runner.inputs import load_models
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.checkpoints.pruned import save
from medcore_prune.checkpoints.sam import load_checkpoint
from medcore_prune.models.families import geometry_of
from medcore_prune.models.pairs import require_aligned
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import lineage_of, prune


def test_a_cut_model_is_compared_with_its_whole_reference_cut_likewise(tmp_path: Path) -> None:
    write_pair(tmp_path)
    whole = load_checkpoint(tmp_path / "adapted.pth")
    plan = make_plan(whole, "h25_m50")
    save(prune(whole, plan), tmp_path / "small.safetensors")
    settings = Settings(tmp_path, adapted=tmp_path / "small.safetensors", reference=tmp_path / "reference.pth")
    adapted, reference = load_models(settings)
    assert reference is not None
    require_aligned(adapted, reference)
    cut = lineage_of(reference).plan
    assert cut is not None
    assert cut.hash == plan.hash
    assert geometry_of(reference).image_size == SIZE
