import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneError
from medcore_prune.checkpoints.sam import save_training_checkpoint
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.table import bar
from medcore_prune.models.families import FAMILIES, build_model


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, words)])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m70")
    mp.save(mp.prune(model, plan), tmp_path / "small.safetensors", provenance={"adapted": {"sha256": "a" * 64}})
    return tmp_path / "small.safetensors"


def test_a_pruned_file_tells_what_is_left_and_where_it_comes_from(small: Path, tmp_path: Path) -> None:
    result = run(small, "--out", tmp_path / "blocks.png")
    assert result.exit_code == 0, result.output
    model = mp.load(small)
    dense = mp.count(tiny_sam())
    assert f"{mp.count(model).params_m:.3f}M of {dense.params_m:.3f}M" in result.output
    assert "level: h50_m70" in result.output
    assert "adapted: sha256 " + "a" * 12 + "\n" in result.output
    # block 0 of four: 8 of 16 heads go from the three unprotected blocks
    heads = model.image_encoder.blocks[0].attn.num_heads  # type: ignore[union-attr,index]
    assert f"{heads} of 4" in result.output
    assert Image.open(tmp_path / "blocks.png").size[0] > 500


def test_everything_as_json(small: Path) -> None:
    result = run(small, "--json")
    record = json.loads(result.output)
    assert record["params"] < record["params_whole"]
    assert record["plan"]["level"] == "h50_m70"
    assert record["provenance"]["adapted"]["sha256"] == "a" * 64


def test_checkpoints_of_sam_are_read_too(tmp_path: Path) -> None:
    save_training_checkpoint(tmp_path / "a.pth", mp.zoo.pocket("adapted"), step=1)
    result = run(tmp_path / "a.pth", "--json")
    record = json.loads(result.output)
    assert record["kind"] == "pocket"
    assert record["params"] == record["params_whole"]
    assert record["level"] == "h0_m0"
    assert json.loads(run("--json").output)["sha256 of the model"] == record["sha256 of the model"]


def test_mistakes(small: Path, tmp_path: Path) -> None:
    assert isinstance(run(tmp_path / "nowhere.safetensors").exception, CheckpointError)
    result = run(small, "--out", tmp_path / "a.docx")
    assert isinstance(result.exception, MedcorePruneError)
    assert "ends in one of .png, .svg" in str(result.exception)


def test_bars_are_as_long_as_the_share() -> None:
    assert bar(12, 12, 6) == "██████"
    assert bar(6, 12, 6) == "███···"
    assert bar(0, 12, 6) == "······"
    assert bar(1, 16, 2) == "▏·"


def test_a_model_of_a_plug_ins_family(tmp_path: Path) -> None:
    """What docs/extending.md promises of its family, through the command."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = [
        text for text in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.M) if "SmallViTFamily" in text
    ]
    family, use = block.split("torch.save(SmallViT()")
    (tmp_path / "small_vit.py").write_text(family, encoding="utf-8")
    assert "mp.load_checkpoint" in use
    try:
        mp.load_plugin(tmp_path / "small_vit.py")
        torch.save(build_model("small_vit").state_dict(), tmp_path / "small_vit.pth")
        words = ["--plugin", str(tmp_path / "small_vit.py"), "inspect", str(tmp_path / "small_vit.pth")]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        assert "kind: SmallViT" in result.output
        assert "image_size: 64" in result.output
    finally:
        FAMILIES.unregister("SmallViT")
    result = CliRunner().invoke(cli, ["inspect", str(tmp_path / "small_vit.pth")])
    first, *families = str(result.exception).splitlines()
    assert "are of no known model family; what is missing for each:" in first
    assert families[0] == "  segment_anything: no image_encoder.patch_embed.proj.weight"
    assert families[1].startswith("  tiny_vit: no image_encoder.patch_embed.seq.")
