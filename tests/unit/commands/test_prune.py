import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tiny import TINY, tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, CriterionError, DataError, MedcorePruneError, SurgeryError
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.inputs import ImageOptions, read_model, read_pair, require_own_images
from medcore_prune.commands.work.planning import PruneSettings
from medcore_prune.commands.work.pruning import LARGEST_DIFFERENCE, compare, run_pruning
from medcore_prune.data.splits.split import Split
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.surgery import lineage_of
from medcore_prune.scoring.registry import criteria

LEVEL = Level.parse("h50_m70")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["prune", *words])


def tiny_split() -> Split:
    return Split({"own": TinySamples("own", 4)}, {}, {"own": TinySamples("other", 2)}, 0, (0.7, 0.1, 0.2))


def test_the_whole_way_on_a_tiny_model(here: Path) -> None:
    model, reference, roles = tiny_sam(0), tiny_sam(1), tiny_split()
    settings = PruneSettings(level=LEVEL, calibration=3, cache=here / "cache")
    done = run_pruning(model, reference, roles, settings)
    assert 0 < done.difference < LARGEST_DIFFERENCE
    assert done.after.params < done.before.params
    assert done.record["calibration"]["own"]["images"] == 3
    assert done.record["masked_vs_removed"]["images"] == 3
    # calibration read the training images, nothing looked at the test images' masks
    assert roles.test["own"].read == []
    assert lineage_of(done.model).plan == done.plan


def test_a_cut_that_changes_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, LEVEL)
    monkeypatch.setattr("medcore_prune.commands.work.pruning.verify", lambda *_: 0.01)
    with pytest.raises(SurgeryError, match=r"differ from the masked model's by 1.0e-02 .* nothing was written"):
        compare(model, plan, {"own": TinySamples("own", 2)}, 2)


def test_files_report_and_split_lie_beside_the_model(here: Path) -> None:
    first = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--out", "drawn"])
    assert first.exit_code == 0, first.output
    words = ["--data", "own=drawn", "--method", "magnitude"]
    result = run("pocket", *words, "--plan-out", "plan.json", "--verbose", "--out", "a.safetensors")
    assert result.exit_code == 0, result.output
    assert "masked = removed on 4 images: largest relative difference" in result.output
    header = read_header(here / "a.safetensors")
    record = json.loads((here / "a.report.json").read_text())
    assert {**record, "medcore_prune": mp.__version__} == header.provenance
    assert mp.Plan.load(here / "plan.json").hash == header.plan.hash == record["plan"]
    assert f"{record['masked_vs_removed']['largest_relative_difference']:.1e}" in (here / "a.report.md").read_text()
    # a second cut takes the split that lies beside the first, and keeps what the first said
    again = run("a.safetensors", *words, "--level", "h10_m20", "--out", "b.safetensors")
    assert again.exit_code == 0, again.output
    assert "split: the one beside a.safetensors" in again.output
    second = read_header(here / "b.safetensors")
    assert second.provenance["before"][0]["plan"] == record["plan"]
    assert second.plan.blocks[0].heads == 12
    assert second.plan.removed("heads") > header.plan.removed("heads")
    assert {p.name for p in here.iterdir()} >= {"b.split.json", "b.report.md", "b.report.json"}


def test_blocks_are_fitted_behind_a_correction_where_steps_are_asked_for(here: Path) -> None:
    result = run("--method", "magnitude", "--correct", "--fit-steps", "2", "--verbose", "--out", "a.safetensors")
    assert result.exit_code == 0, result.output
    corrected = read_header(here / "a.safetensors").provenance["corrected"]
    assert corrected["settings"]["fit_steps"] == 2
    assert len(corrected["blocks"]) == 12
    assert all(block["held_out_after"] <= block["held_out_before"] for block in corrected["blocks"])
    said = next(line for line in result.output.splitlines() if "blocks fitted by 2 steps" in line)
    assert said in (here / "a.report.md").read_text()
    alone = run("--method", "magnitude", "--fit-steps", "2", "--out", "b.safetensors")
    assert alone.exit_code == 2
    assert "give --correct too" in alone.output
    assert not (here / "b.safetensors").exists()


def test_a_searched_budget_goes_with_the_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.commands.work.prune.GENERATIONS", 1)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--out", "drawn"])
    assert drawn.exit_code == 0, drawn.output
    words = ["--data", "own=drawn", "--calibration", "2", "--target", "params=50%", "--out", "a.safetensors"]
    result = run("pocket", "--search", "--correct", "--verbose", *words)
    assert result.exit_code == 0, result.output
    assert "budget searched: 18 states, divergence from the whole model" in result.output
    header, record = read_header(here / "a.safetensors"), json.loads((here / "a.report.json").read_text())
    assert record["method"] == header.plan.criterion == "residual"
    assert record["searched"] == header.plan.notes["searched"]
    images = record["searched"]["images"]
    assert 1 < images < 12
    assert header.plan.quotas == "searched"
    assert 0.5 <= record["cost"]["params_removed"] < 0.52
    assert f"Budget: searched by seed 0, 18 states on {images} images" in (here / "a.report.md").read_text()


def test_a_search_keeps_the_method_that_is_named_and_what_is_protected(here: Path) -> None:
    settings = PruneSettings(level=LEVEL, method="magnitude", search=1, calibration=2, protect=1, cache=here / "cache")
    done = run_pruning(tiny_sam(0), None, tiny_split(), settings)
    assert (done.plan.criterion, done.plan.quotas, done.plan.protected) == ("magnitude", "searched", (3,))
    assert done.plan.blocks[-1].untouched
    assert 1 < done.record["searched"]["states"] <= 18


@pytest.mark.parametrize(("level", "said"), [("h0_m0", True), ("h0_m10", False)])
def test_a_level_that_cuts_nothing_is_said(level: str, said: bool) -> None:
    result = run("--level", level, "--method", "magnitude")
    assert result.exit_code == 0, result.output
    assert ("note: nothing is cut: all heads and neurons stay" in result.output) == said


def test_the_reference_follows_a_model_that_was_pruned_before(here: Path) -> None:
    model = mp.zoo.pocket("adapted")
    mp.save(mp.prune(model, mp.make_plan(model, "h40_m30")), here / "a.safetensors")
    small, base = read_pair("a.safetensors", "pocket", "cpu", None)
    assert base is not None
    mp.require_aligned(small, base)
    assert lineage_of(base).plan == lineage_of(small).plan
    assert read_pair("a.safetensors", None, "cpu", None)[1] is None


def test_half_precision_is_read_to_compute_with(here: Path) -> None:
    model: nn.Module = tiny_sam()
    mp.save(model.half(), here / "half.safetensors")
    read = read_model("half.safetensors")
    images, boxes, _ = tiny_batch(1)
    assert torch.isfinite(low_res_logits(read, images, boxes)).all()
    with pytest.raises(MedcorePruneError, match=r"half\.safetensors is for 48 px"):
        read_model("half.safetensors", image_size=2 * TINY.image_size)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.pth"], r"ends in \.safetensors"),
        (["--method", "nothing"], "nothing"),
        (["nowhere.pth"], "no such file"),
        (["pocket", "--data", "own.boxes=boxes.csv"], "there is no --data own=DIR"),
        (["--level", "h99_m99", "--method", "random", "--protect", "12"], "cannot protect 12 of 12"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(here: Path, words: list[str], message: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, MedcorePruneError), result.output
    with pytest.raises(MedcorePruneError, match=message):
        raise result.exception
    assert not list(here.glob("*.*"))


def test_a_published_model_is_not_pruned_on_drawn_images() -> None:
    whole = mp.build_sam("vit_b", "meta")
    with pytest.raises(DataError, match="a vit_b needs images of yours: give --data NAME=DIR"):
        require_own_images([mp.zoo.pocket("adapted"), whole], ImageOptions())
    require_own_images([whole], ImageOptions(("own=set",)))


def test_two_ways_to_say_how_much_is_a_usage_error() -> None:
    result = run("--level", "h50_m70", "--target", "params=50%")
    assert result.exit_code == 2
    assert "--level and --target both say how much goes" in result.output


@pytest.mark.parametrize("target", ["params=200%", "params=0.6", "parameters=60%"])
def test_a_target_that_is_none_is_a_usage_error(target: str) -> None:
    result = run("--target", target)
    assert result.exit_code == 2
    assert "Invalid value for '--target'" in result.output


@pytest.mark.parametrize(
    ("option", "value", "right"), [("level", "params=60%", "target"), ("target", "h50_m70", "level")]
)
def test_a_level_and_a_target_that_are_mixed_up_are_told_apart(option: str, value: str, right: str) -> None:
    result = run(f"--{option}", value)
    assert result.exit_code == 2
    assert f"'{value}' is a {right}: give --{right} {value}" in result.output


def test_a_method_that_compares_asks_for_the_reference(here: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--method medcore compares .*: give --reference FILE \(pocket for the "):
        run_pruning(tiny_sam(), None, tiny_split(), PruneSettings(method="medcore", level=LEVEL))


def test_fewer_images_than_asked_for_are_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = PruneSettings(method="zero_fisher", level=LEVEL, calibration=40, cache=here)
    run_pruning(tiny_sam(), None, tiny_split(), settings)
    said = capsys.readouterr().err
    assert "note: --calibration 40, but there are 4 training images" in said
    assert "calibration: " in said
    assert "passes" not in said


def test_the_input_is_not_overwritten(here: Path) -> None:
    model = tiny_sam()
    mp.save(model, here / "a.safetensors")
    before = (here / "a.safetensors").read_bytes()
    (here / "link.safetensors").symlink_to("a.safetensors")
    for place in ("--out", "--plan-out"):
        for name in ("a.safetensors", "link.safetensors"):
            result = run("a.safetensors", place, name)
            assert isinstance(result.exception, MedcorePruneError)
            assert "that is read" in str(result.exception)
    assert (here / "a.safetensors").read_bytes() == before


def test_a_calibrated_method_without_a_reference_says_so(here: Path) -> None:
    mp.save(tiny_sam(), here / "a.safetensors")
    result = run("a.safetensors", "--calibration", "1")
    assert isinstance(result.exception, MedcorePruneError)
    assert "reference" in str(result.exception)
    assert not isinstance(result.exception, DataError)


def test_a_method_of_ones_own_that_fails_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "fails.py").write_text(
        "import medcore_prune as mp\n\n\n@mp.register_criterion('fails', source='a test')\n"
        "def fails(group):\n    return group.no_such_part\n"
    )
    try:
        result = run("--level", "h50_m70", "--plugin", "fails.py", "--method", "fails")
    finally:
        criteria.unregister("fails")
    assert isinstance(result.exception, CriterionError)
    assert re.fullmatch(r"fails failed: AttributeError: .*no_such_part.* \(fails\.py, line 6\)", str(result.exception))
    assert not list(here.glob("*.safetensors"))
