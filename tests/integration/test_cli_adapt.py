import json
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from forked import run_script
from skimage.io import imsave

import medcore_prune as mp
from medcore_prune.checkpoints.sam import load_sam
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.adapt import _start_of
from medcore_prune.commands.work.outputs import measured
from medcore_prune.training import judge
from medcore_prune.training.average import SHARES
from medcore_prune.zoo import pocket


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for index in range(12):
        mask = np.zeros((40, 56), np.uint8)
        mask[8 + index : 30, 10:40] = 255
        imsave(tmp_path / "set/images" / f"{index}.png", rng.integers(0, 255, (40, 56, 3), dtype=np.uint8))
        imsave(tmp_path / "set/masks" / f"{index}.png", mask, check_contrast=False)
    return tmp_path / "set"


def test_adapt_from_the_pocket_pair_then_from_the_result(images: Path, tmp_path: Path) -> None:
    common = ["--data", f"own={images}", "--image-size", "48", "--steps", "2"]
    first = CliRunner().invoke(cli, ["adapt", "pocket", *common, "--out", str(tmp_path / "first.pth")])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(
        cli, ["adapt", str(tmp_path / "first.pth"), *common, "--verbose", "--out", str(tmp_path / "second.pth")]
    )
    assert again.exit_code == 0, again.output
    record = json.loads((tmp_path / "second.json").read_text())
    assert len(record["losses"]) == 2
    assert [each["step"] for each in record["validations"]] == [0, 2]
    # the images are noise: what is kept is what the validation images say, and it is said
    losses = [each["loss"] for each in record["validations"]]
    kept = record["best_step"]
    assert kept == (2 if losses[1] < losses[0] else 0)
    assert f"validation loss {losses[0]:.4f} -> {min(losses):.4f}\n" in again.output
    assert "loss" not in first.output
    assert "passes" not in first.output
    # Dice and BF1 are those of the file that was written, on the validation images, beside the floors
    validation = mp.data.Split.load(
        tmp_path / "second.split.json", {"own": mp.data.folder(images, name="own")}
    ).validation
    means = mp.evaluate(load_sam("pocket", tmp_path / "second.pth", image_size=48), validation, progress=False)
    row = next(line for line in again.output.splitlines() if line.startswith("second.pth"))
    assert row.split()[1:] == [f"{means[name].mean():.4f}" for name in ("dice", "bf1")]
    assert record["judged"]["models"]["second.pth"] == {name: means[name].mean() for name in ("dice", "bf1")}
    floors = [line.split()[-2:] for line in again.output.splitlines() if "in the box" in line or "filled box" in line]
    values = [record["judged"]["floors"][name] for name in ("ellipse", "box")]
    assert floors[:2] == [[f"{each['dice']:.4f}", f"{each['bf1']:.4f}"] for each in values]
    assert _encoder_weight(tmp_path / "first.pth").equal(_encoder_weight(tmp_path / "second.pth")) == (kept == 0)
    assert (tmp_path / "second.split.json").exists()
    assert not (tmp_path / "second.state.pt").exists()


def _encoder_weight(checkpoint: Path) -> torch.Tensor:
    return load_sam("pocket", checkpoint, image_size=48).state_dict()["image_encoder.blocks.3.mlp.lin1.weight"]


def test_an_average_is_judged_by_the_look_that_chose_it(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Counter[str]()

    def counted(where: ModuleType) -> None:
        predict = where.predict

        def noted(*args: Any, **more: Any) -> Any:
            looks.update([where.__name__])
            return predict(*args, **more)

        monkeypatch.setattr(where, "predict", noted)

    for where in (judge, measured):
        counted(where)
    out = tmp_path / "own.pth"
    asked = f"adapt pocket --average --data own={images} --image-size 48 --steps 2 --out {out}"
    done = CliRunner().invoke(cli, asked.split())
    assert done.exit_code == 0, done.output
    # a look at each share, and none at the end
    assert looks == {judge.__name__: len(SHARES)}
    record = json.loads(out.with_suffix(".json").read_text())
    validation = mp.data.Split.load(tmp_path / "own.split.json", {"own": mp.data.folder(images, name="own")}).validation
    means = mp.evaluate(load_sam("pocket", out, image_size=48), validation, progress=False)
    expected = {name: means[name].mean() for name in ("dice", "bf1")}
    assert record["judged"]["models"]["own.pth"] == expected
    row = next(line for line in done.output.splitlines() if line.startswith("own.pth"))
    assert row.split()[1:] == [f"{value:.4f}" for value in expected.values()]
    assert set(record["judged"]["floors"]) == {"box", "ellipse"}


def test_the_record_names_what_was_started_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = [_start_of(model) for model in ("pocket", "lite_medsam", "own.pth")]
    assert named == ["pocket pair, reference", "lite_medsam", "own.pth"]
    # a file of that name is a file
    (tmp_path / "pocket").write_bytes(b"")
    assert _start_of("pocket") == "pocket"


def test_a_training_that_ruins_the_model_keeps_the_start(images: Path, tmp_path: Path) -> None:
    asked = f"adapt pocket --data own={images} --image-size 48 --steps 3 --learning-rate 0.3 --out"
    result = CliRunner().invoke(cli, [*asked.split(), str(tmp_path / "bad.pth")])
    assert result.exit_code == 0, result.output
    assert "no step was better on the validation images, so the weights from before it are kept" in result.output
    kept = load_sam("pocket", tmp_path / "bad.pth", image_size=48).state_dict()
    start = pocket("reference", image_size=48).state_dict()
    assert all(torch.equal(kept[name], start[name]) for name in start)


def test_wrong_words_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    words = ["adapt", "pocket", "--data", "nowhere", "--out", str(tmp_path / "a.pth")]
    done = run_script("from medcore_prune.commands.cli import main; main()", *words)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --data 'nowhere': expected NAME=DIR, for example kvasir=images/Kvasir-SEG"


def test_test_images_of_one_group_are_said(images: Path, tmp_path: Path) -> None:
    rows = [
        f"{place.stem},{'abc'[min(number, 2)]}" for number, place in enumerate(sorted((images / "images").iterdir()))
    ]
    (images / "manifest.csv").write_text("\n".join(["name,group", *rows]) + "\n")
    asked = ["adapt", "pocket", "--data", f"own={images}", "--image-size", "48", "--steps", "1"]
    result = CliRunner().invoke(cli, [*asked, "--out", str(tmp_path / "a.pth")])
    assert result.exit_code == 0, result.output
    assert re.search(r"warning: the \d+ test images? of own are all of one group \([abc]\): no report", result.output)


def test_without_validation_images_nothing_is_judged(images: Path, tmp_path: Path) -> None:
    asked = ["adapt", "pocket", "--data", f"own={images}", "--image-size", "48", "--steps", "1"]
    result = CliRunner().invoke(cli, [*asked, "--fractions", "0.7,0,0.3", "--out", str(tmp_path / "a.pth")])
    assert result.exit_code == 0, result.output
    assert "there are no validation images, so the last weights are kept" in result.output
    assert "Dice and BF1 are not measured" in result.output
    assert json.loads((tmp_path / "a.json").read_text())["judged"] is None
