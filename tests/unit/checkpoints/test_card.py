"""A model card says what the header and the evaluation hold, and no more."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError, MetricError
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.commands.cli import cli
from medcore_prune.evaluation.evaluate import macro_average
from medcore_prune.evaluation.figures import Figures, averages, images_of, read_figures


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model = tiny_sam()
    mp.save(mp.prune(model, mp.make_plan(model, "h50_m70", protect=1)), "small.safetensors")
    return tmp_path / "small.safetensors"


def table(groups: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = {"dataset": "own", "name": [f"i{n}" for n in range(24)], "group": [f"g{n % groups}" for n in range(24)]}
    return pd.DataFrame(rows | {name: rng.random(24) for name in ("dice", "iou", "bf1", "hd95_px")})


def figures(place: Path, groups: int = 12) -> Figures:
    rows = table(groups)
    images = images_of(rows, {"own": "a" * 64})
    floors = {"box": {"dice": 0.1, "bf1": 0.9}}
    return Figures(read_header(place).model_hash, "test", "256", 2.0, False, images, averages(rows), floors)


def test_without_figures_it_says_that_nothing_was_measured(small: Path) -> None:
    card = mp.model_card(small)
    assert "Masks: not measured." in card
    assert "Cost of the encoder: not measured." in card
    assert "parent: not stated" in card
    assert "## Licence\n\nnot stated" in card
    # no figure is invented: no decimal number but those of the protocol and of versions
    body = card.split("## Figures")[1].split("## Licence")[0]
    assert not any(part.replace(".", "", 1).isdigit() for part in body.split())
    assert read_header(small).model_hash in card


def test_figures_are_those_that_were_measured(small: Path) -> None:
    found = figures(small)
    card = mp.model_card(small, found, license="apache-2.0")
    for metric, value in macro_average(table()).items():
        form = ".2f" if metric == "hd95_px" else ".4f"
        each = found.metrics[str(metric)]
        assert each.value == pytest.approx(value)
        assert each.low < each.value < each.high
        assert f"| {value:{form}} | {each.low:{form}} to {each.high:{form}} |" in card
    assert "No better than an answer without a model in Boundary F1." in card
    assert "indicative only" not in card
    assert "24 of own" in card


def test_limits_follow_from_what_was_measured(small: Path) -> None:
    drawn = replace(figures(small, groups=3), phantoms=True, role="validation")
    card = mp.model_card(small, drawn)
    for said in (
        "synthetic images (drawn phantoms)",
        "| synthetic validation images |",
        "validation images, on which choices",
        "indicative only",
    ):
        assert said in card


def test_figures_of_another_model_are_refused(small: Path) -> None:
    with pytest.raises(MetricError, match=r"figures are of the model 000000000000, .* evaluate this file"):
        mp.model_card(small, replace(figures(small), model_hash="0" * 64))


def test_the_hub_reads_the_front_matter(small: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    found = figures(small)
    data = hub.ModelCard(mp.model_card(small, found, license="apache-2.0")).data
    assert (data.license, data.library_name, data.model_name) == ("apache-2.0", "medcore-prune", "small")
    assert {each.metric_type: each.metric_value for each in data.eval_results} == {
        name: round(each.value, 6) for name, each in found.metrics.items()
    }
    assert hub.ModelCard(mp.model_card(small)).data.license is None


@pytest.mark.parametrize("text", ["{", "[]", "3", '[{"format": "medcore_prune.figures/1"}]'])
def test_what_is_no_evaluation_is_said_in_one_line(small: Path, text: str) -> None:
    Path("figures.json").write_text(text)
    with pytest.raises(MetricError) as caught:
        read_figures(".", "0" * 64)
    assert "\n" not in str(caught.value)


def run(words: str) -> str:
    result = CliRunner().invoke(cli, words.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_command_takes_the_evaluation_of_this_file(small: Path) -> None:
    run("phantoms --count 20 --size 48 --out set")
    run("evaluate small.safetensors --data own=set --role all --eval-size 32 --out ev")
    stored = json.loads(Path("ev/figures.json").read_text())
    assert [each["model_hash"] for each in stored] == [read_header(small).model_hash]
    rows = pd.read_csv("ev/images.csv")
    mean = rows[rows["model"] == "small.safetensors"]["bf1"].mean()
    assert stored[0]["metrics"]["bf1"]["value"] == pytest.approx(mean, abs=1e-6)
    assert "written: small.card.md" in run("card small.safetensors --evaluation ev --license mit")
    card = Path("small.card.md").read_text()
    assert f"{mean:.4f}" in card
    # the command that it names works
    line = next(line for line in card.splitlines() if line.startswith("medcore-prune predict"))
    words = line.removeprefix("medcore-prune ").replace("image.png", "set/images/s0_000000.png")
    assert "1 mask of 1 image" in run(words.replace("10,20,80,90", "10,10,40,40"))
    assert "It was measured on all images" in card
    with pytest.raises(MedcorePruneError, match="already there"):
        run("card small.safetensors")
    mp.save(tiny_sam(4), "other.safetensors")
    with pytest.raises(MetricError, match=r"holds no figures of the model .*: evaluate this file"):
        run("card other.safetensors --evaluation ev")
    assert not Path("other.card.md").exists()


def test_compress_writes_the_card_of_what_it_made(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", "cache")
    run("phantoms --count 20 --size 48 --out set")
    mp.save(tiny_sam(), "model.safetensors")
    words = "compress model.safetensors --level h50_m50 --images 2 --recover 0 --no-onnx"
    assert "own: 20 images are synthetic" in run(f"{words} --data own=set --out made")
    card = Path("made/small.card.md").read_text()
    assert "It was measured on synthetic images" in card
    assert "| test | own, synthetic | " in card
    assert "test images are synthetic" in Path("made/report.md").read_text()
    # the same pixels under no such mark are taken as real
    for picture in Path("set/images").iterdir():
        Image.open(picture).copy().save(picture)
    run(f"{words} --data own=set --out real")
    assert not any("synthetic" in path.read_text() for path in Path("real").rglob("*.md"))
    row = next(line for line in Path("made/report.md").read_text().splitlines() if line.startswith("| BF1 |"))
    value = next(line for line in card.splitlines() if line.startswith("| Boundary F1 |")).split("|")[2].strip()
    assert value in row
