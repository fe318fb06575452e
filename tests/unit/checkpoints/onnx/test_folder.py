"""Exported files used without the package, as README.md and segment.py beside them say, against `Predictor`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite import tiny_lite
from PIL import Image
from tiny import tiny_sam
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import WriteError
from medcore_prune.checkpoints.onnx.facts import read_facts
from medcore_prune.checkpoints.onnx.folder import README, SEGMENT, refuse_others, write_beside
from medcore_prune.checkpoints.onnx.parts import PARTS

pytest.importorskip("onnxruntime")
MODELS = {"medsam": lambda: mp.zoo.pocket("adapted"), "small": tiny_sam, "lite_medsam": tiny_lite}


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A model and a folder of its files."""
    model, folder = MODELS[request.param](), tmp_path_factory.mktemp("onnx")
    for part in PARTS:
        mp.export_onnx(model, folder / f"{part}.onnx", part)
    write_beside(folder, "encoder")
    return model, folder


def script(folder: Path) -> dict[str, Any]:
    text = (folder / SEGMENT).read_text()
    assert "import medcore_prune" not in text
    assert "torch" not in text
    names: dict[str, Any] = {"__name__": "segment"}
    exec(compile(text, SEGMENT, "exec"), names)
    return names


@pytest.mark.parametrize("size", [(96, 96), (250, 173), (61, 300), (20, 15)])
def test_the_script_makes_the_masks_of_predictor(exported: tuple[nn.Module, Path], size: tuple[int, int]) -> None:
    model, folder = exported
    names = script(folder)
    opened = names["open_model"](str(folder))
    sample = mp.data.phantoms.make("phantom_polyp_a", count=1)[0]
    for mode in ("RGB", "L"):
        image = Image.fromarray(sample.image).convert(mode).resize(size)
        by = np.array([size[0], size[1]] * 2) / np.array([*sample.image.shape[1::-1]] * 2)
        box = tuple(float(corner) for corner in np.array(sample.box) * by)
        expected = mp.Predictor(model).set_image(np.array(image)).predict(box)
        got = names["segment"](opened, image, box)
        np.testing.assert_array_equal(got, expected)
        assert 0 < expected.sum() < expected.size


def test_the_script_runs_as_a_command(exported: tuple[nn.Module, Path]) -> None:
    model, folder = exported
    sample = mp.data.phantoms.make("phantom_polyp_a", seed=3, count=1)[0]
    Image.fromarray(sample.image).save(folder / "image.png")
    words = [sys.executable, SEGMENT, "image.png", *(str(corner) for corner in sample.box), "mask.png"]
    subprocess.run(words, cwd=folder, check=True, timeout=120)
    expected = mp.Predictor(model).set_image(sample.image).predict(sample.box)
    np.testing.assert_array_equal(np.array(Image.open(folder / "mask.png")), expected)


def test_the_files_say_what_goes_in_and_comes_out(exported: tuple[nn.Module, Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    _, folder = exported
    text = (folder / README).read_text()
    for part in PARTS:
        facts = read_facts(folder / f"{part}.onnx")
        session = onnxruntime.InferenceSession(str(folder / f"{part}.onnx"))
        for kind, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert {each.name for each in values} == set(facts[kind])
            for each in values:
                # sizes as the file declares them, the batch alone free
                assert each.shape[0] == "batch"
                assert all(isinstance(side, int) for side in each.shape[1:])
                assert facts[kind][each.name].startswith(f"({', '.join(map(str, each.shape))}) float32")
                assert f"`{each.name}` {facts[kind][each.name]}" in text
    assert facts["model_hash"] in text


@pytest.mark.parametrize("part", list(PARTS))
def test_preprocessing_of_onnx_runtime_takes_the_files(
    exported: tuple[nn.Module, Path], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it leaves files where it runs
    monkeypatch.chdir(tmp_path)
    module = pytest.importorskip("onnxruntime.quantization.shape_inference")
    module.quant_pre_process(str(exported[1] / f"{part}.onnx"), str(tmp_path / "prepared.onnx"))
    assert (tmp_path / "prepared.onnx").stat().st_size > 0


def test_files_of_two_models_are_not_mixed(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, folder = exported
    other = tiny_sam(7)
    mp.export_onnx(other, tmp_path / "decoder.onnx", "decoder")
    (tmp_path / "encoder.onnx").write_bytes((folder / "encoder.onnx").read_bytes())
    write_beside(tmp_path, "decoder")
    text = (tmp_path / README).read_text()
    assert "`encoder.onnx`:" not in text
    assert "`decoder.onnx` beside it, of which `encoder.onnx` is to be exported first." in " ".join(text.split())
    assert "exported first" not in (folder / README).read_text()
    with pytest.raises(SystemExit, match="are of two models"):
        script(tmp_path)["open_model"](str(tmp_path))


@pytest.mark.parametrize("name", [README, SEGMENT])
def test_what_somebody_else_wrote_is_not_replaced(exported: tuple[nn.Module, Path], name: str, tmp_path: Path) -> None:
    refuse_others(exported[1])
    (tmp_path / name).write_text("mine")
    with pytest.raises(WriteError, match=f"{name} is not of an export"):
        refuse_others(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_the_documentation_shows_the_script_itself(exported: tuple[nn.Module, Path]) -> None:
    page = Path(__file__).resolve().parents[4] / "docs/share.md"
    assert f"```python\n{(exported[1] / SEGMENT).read_text()}```" in page.read_text()
