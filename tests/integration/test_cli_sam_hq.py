"""A checkpoint in SAM-HQ's format through the whole command line: read, adapted, cut, evaluated, used, exported."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hq import hq_state
from PIL import Image

import medcore_prune as mp
from medcore_prune.commands.cli import cli
from medcore_prune.models.families import family_of

DATA = ["--data", "own=phantoms"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    torch.save(hq_state(mp.zoo.pocket("reference")), tmp_path / "sam_hq.pth")
    torch.save({"model": hq_state(mp.zoo.pocket("adapted"))}, tmp_path / "medsam_hq.pth")
    return tmp_path


def ran(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    return result.stdout


def test_from_a_checkpoint_to_masks(here: Path) -> None:
    ran("phantoms", "--out", "phantoms")
    ran("inspect", "medsam_hq.pth")
    ran("adapt", "medsam_hq.pth", *DATA, "--steps", "2", "--out", "own.pth")
    assert family_of(mp.load_checkpoint("own.pth")).name == "sam_hq"
    cut = ["--level", "h50_m70", "--calibration", "4", "--correct", "--out", "small.safetensors"]
    ran("prune", "own.pth", "--reference", "sam_hq.pth", *DATA, *cut)
    small = mp.load("small.safetensors")
    assert mp.count(small).params < 0.5 * mp.count(mp.load_sam("own.pth")).params

    assert "small.safetensors" in ran("evaluate", "small.safetensors", "--against", "own.pth", *DATA, "--out", "judged")
    ran("recover", "small.safetensors", "--teacher", "own.pth", *DATA, "--steps", "2", "--out", "recovered.safetensors")
    assert family_of(mp.load("recovered.safetensors")).name == "sam_hq"

    image = "phantoms/images/s0_000000.png"
    ran("predict", "small.safetensors", image, "--box", "40,59,82,80", "--out", "masks")
    mask = np.asarray(Image.open("masks/s0_000000_mask.png")) > 0
    predictor = mp.Predictor(small).set_image(np.asarray(Image.open(image).convert("RGB")))
    assert np.array_equal(mask, predictor.predict(box=(40, 59, 82, 80)))
    # what SAM-HQ adds is in the file: without it there are other masks
    with torch.no_grad():
        for parameter in small.mask_decoder.hf_mlp.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    plain = mp.Predictor(small).set_image(np.asarray(Image.open(image).convert("RGB")))
    assert not np.array_equal(mask, plain.predict(box=(40, 59, 82, 80)))


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra onnx")
def test_exported(here: Path) -> None:
    ran("phantoms", "--out", "phantoms")
    ran("prune", "medsam_hq.pth", *DATA, "--method", "magnitude", "--level", "h50_m70", "--out", "small.safetensors")
    # each part is held against PyTorch before it is kept
    ran("export", "small.safetensors", "--part", "all", "--out", "onnx")
    ran("export", "small.safetensors", "--part", "encoder", "--int8", "--out", "onnx8")
    assert {path.name for path in Path("onnx").glob("*.onnx")} == {"encoder.onnx", "decoder.onnx", "whole.onnx"}
    assert mp.OnnxModel(mp.load("small.safetensors"), "onnx8/encoder_int8.onnx")
