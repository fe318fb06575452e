"""The encoder in int8: what is quantised and how, what its file says, how far it moves, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError
from medcore_prune.checkpoints.onnx import extra, int8
from medcore_prune.checkpoints.onnx.facts import read_facts
from medcore_prune.checkpoints.onnx.int8 import METRICS, saturates
from medcore_prune.checkpoints.onnx.parts import EXPORTERS
from medcore_prune.data import phantoms
from medcore_prune.data.frame import Frame
from medcore_prune.evaluation.intervals import paired_difference
from medcore_prune.models.families import blocks_of
from medcore_prune.models.protocol import embed
from medcore_prune.zoo import pocket

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return tiny_sam()


@pytest.fixture(scope="module")
def encoder(tiny: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    mp.export_onnx(tiny, place, "encoder")
    return place


def weights(place: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Int8 weights of a file with their scales and zero points, by name."""
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(place)).graph.initializer}
    return {name: value for name, value in found.items() if "_quantized" in name or "_scale" in name or "_zero" in name}


def test_the_pocket_encoder_is_a_third_as_large_and_near_to_float(tmp_path: Path) -> None:
    model = pocket("adapted")
    mp.export_onnx(model, tmp_path / "float.onnx", "encoder")
    report = mp.quantise_onnx(model, tmp_path / "float.onnx", tmp_path / "int8.onnx")
    assert report.linears == 4 * len(blocks_of(model))
    assert report.int8_bytes == (tmp_path / "int8.onnx").stat().st_size
    assert report.int8_bytes < 0.4 * report.float_bytes
    # restated: under ONNX Runtime alone, beside PyTorch, on other images than the report's
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    for sample in phantoms.make("phantom_polyp_b", seed=5, count=3):
        image = Frame(96).image(sample.image)[None]
        got = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        with torch.no_grad():
            expected = embed(model, image)
        difference = ((got - expected).norm() / expected.norm()).item()
        assert 1e-3 < difference < 0.08
        assert 1e-3 < report.relative_rms < 0.08


@pytest.mark.parametrize("exporter", list(EXPORTERS))
@pytest.mark.parametrize("convolutions", ["float", "int8"])
def test_linear_layers_alone_are_quantised_unless_convolutions_are_asked_for(
    tiny: nn.Module, exporter: str, convolutions: Any, tmp_path: Path
) -> None:
    if exporter == "dynamo" and convolutions == "int8":
        pytest.skip("the slow exporter is tried once")
    mp.export_onnx(tiny, tmp_path / "float.onnx", "encoder", exporter=exporter)
    recipe = mp.Int8Recipe(convolutions=convolutions)
    report = mp.quantise_onnx(tiny, tmp_path / "float.onnx", tmp_path / "int8.onnx", recipe=recipe)
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node]
    # patch embedding and two of the neck
    assert (report.linears, report.convolutions) == (16, 3 if convolutions == "int8" else 0)
    assert (kinds.count("MatMulInteger"), kinds.count("ConvInteger")) == (report.linears, report.convolutions)
    assert kinds.count("Conv") == 3 - report.convolutions
    # attention: queries with keys, weights with values
    assert kinds.count("MatMul") >= 2 * len(blocks_of(tiny))
    assert report.int8_bytes < report.float_bytes
    assert report.recipe == recipe


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_weights_are_those_of_the_model_per_output_channel(
    tiny: nn.Module, encoder: Path, reduce_range: bool, largest: int, tmp_path: Path
) -> None:
    # the layers alone: a whole file of 8 bits is refused where the processor overflows
    int8.quantise_layers(encoder, tmp_path / "int8.onnx", mp.Int8Recipe(reduce_range=reduce_range))
    found = weights(tmp_path / "int8.onnx")
    quantised = {name: value for name, value in found.items() if value.dtype == np.int8 and value.ndim == 2}
    assert len(quantised) == 16
    assert max(np.abs(value.astype(int)).max() for value in quantised.values()) == largest
    layers = [layer.weight.detach().numpy().T for block in blocks_of(tiny) for layer in block.layers.values()]
    for name, value in quantised.items():
        stem = name.removesuffix("_quantized")
        scale = found[f"{stem}_scale"]
        assert scale.shape == (value.shape[1],)
        assert not found[f"{stem}_zero_point"].any()
        near = [w for w in layers if w.shape == value.shape and np.abs(value * scale - w).max() <= 0.51 * scale.max()]
        assert len(near) == 1


def test_the_file_says_what_it_is(tiny: nn.Module, encoder: Path, tmp_path: Path) -> None:
    report = mp.quantise_onnx(
        tiny, encoder, tmp_path / "int8.onnx", validation={"own": TinySamples("own", 4)}, progress=False
    )
    facts, given = read_facts(tmp_path / "int8.onnx"), read_facts(encoder)
    told = facts.pop("int8")
    assert facts == given
    what = {"part", "inputs", "outputs", "padded", "image_size", "level", "model_hash", "protocol", "versions"}
    assert facts.keys() == what
    assert (facts["part"], facts["image_size"]) == ("encoder", 48)
    assert facts["protocol"]["pixel_mean"] == [0.0] * 3
    assert facts["protocol"]["pixel_std"] == [255.0] * 3
    assert "x0, y0, x1, y1 in input pixels" in facts["protocol"]["prompt"]
    assert facts["inputs"]["image"].startswith("(batch, 3, 48, 48) float32, RGB")
    assert list(facts["outputs"]) == ["embedding"]
    assert told["recipe"] == {"convolutions": "float", "per_channel": True, "reduce_range": True}
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    assert told["saturates_here"] is saturates()
    assert (told["linears"], told["images"], told["groups"]) == (16, {"own": 4}, 4)
    assert told["relative_rms"] == report.relative_rms
    assert told["metrics"]["bf1"]["difference"] == report.metrics["bf1"].difference
    json.dumps(facts, allow_nan=False)


def test_metrics_are_those_of_both_models(tiny: nn.Module, encoder: Path, tmp_path: Path) -> None:
    data = {"own": TinySamples("own", 4), "more": TinySamples("more", 3)}
    report = mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx", validation=data, progress=False)
    own = mp.evaluate(mp.OnnxModel(tiny, tmp_path / "int8.onnx"), data, progress=False)
    given = mp.evaluate(tiny, data, progress=False)
    assert tuple(report.metrics) == METRICS
    for name, found in report.metrics.items():
        means = [table.groupby("dataset")[name].mean().mean() for table in (given, own)]
        assert (found.float_value, found.int8_value) == pytest.approx(means, abs=1e-4)
        assert found.difference == pytest.approx(means[1] - means[0], abs=1e-4)
        expected = paired_difference(own, given, name)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
        assert found.low <= found.difference <= found.high
    assert (report.images, report.groups) == ({"own": 4, "more": 3}, 3)


def test_the_mask_of_an_image_does_not_depend_on_the_others_in_a_batch(
    tiny: nn.Module, encoder: Path, tmp_path: Path
) -> None:
    mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx")
    model = mp.OnnxModel(tiny, tmp_path / "int8.onnx")
    images = torch.rand((3, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    images[2] *= 0.1
    assert torch.equal(embed(model, images)[2:], embed(model, images[2:]))


def test_a_processor_without_wide_sums_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow:
        def run(self, _names: object, _given: object) -> list[np.ndarray[Any, Any]]:
            return [np.full((64, 64), 32 * 32767, np.int32)]

    monkeypatch.setattr(int8, "open_session", lambda *_: Narrow())
    assert saturates()


def test_eight_bits_are_refused_where_they_overflow(
    tiny: nn.Module, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "saturates", lambda: True)
    with pytest.raises(MedcorePruneError, match=r"8 bits in too few bits.*nothing was written; use reduce_range"):
        mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx", recipe=mp.Int8Recipe(reduce_range=False))
    assert not list(tmp_path.iterdir())
    assert mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx").recipe.reduce_range


def test_nothing_is_left_beside_the_file(
    tiny: nn.Module, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime's tools write beside their input, and to the working folder
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(encoder.parent.iterdir())
    mp.quantise_onnx(tiny, encoder, tmp_path / "out" / "int8.onnx")
    assert sorted(encoder.parent.iterdir()) == before
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["here", "out", "int8.onnx"]


def test_an_int8_file_that_gives_something_else_is_not_kept(
    tiny: nn.Module, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LARGEST_RMS", 1e-6)
    with pytest.raises(MedcorePruneError, match=r"embedding differs by 0\.0.*nothing was written"):
        mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx")
    assert not list(tmp_path.iterdir())


def test_a_layer_that_stays_float_is_an_error(
    tiny: nn.Module, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = pytest.importorskip("onnxruntime.quantization")
    whole = tools.quantize_dynamic

    def lacking(*arguments: Any, nodes_to_quantize: list[str], **more: Any) -> None:
        whole(*arguments, nodes_to_quantize=nodes_to_quantize[1:16], **more)

    monkeypatch.setattr(tools, "quantize_dynamic", lacking)
    with pytest.raises(MedcorePruneError, match="made 15 linear layers and 0 convolutions int8, expected 16 and 0"):
        mp.quantise_onnx(tiny, encoder, tmp_path / "int8.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_quantised_is_said_before_work(
    tiny: nn.Module, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "int8.onnx"
    with pytest.raises(MedcorePruneError, match="unknown convolutions 'half'"):
        mp.quantise_onnx(tiny, encoder, place, recipe=mp.Int8Recipe(convolutions="half"))  # type: ignore[arg-type]
    with pytest.raises(MedcorePruneError, match=r"ends in \.onnx"):
        mp.quantise_onnx(tiny, encoder, tmp_path / "int8.pb")
    with pytest.raises(MedcorePruneError, match="another model"):
        mp.quantise_onnx(tiny_sam(5), encoder, place)
    with pytest.raises(MedcorePruneError, match="no image to compare"):
        mp.quantise_onnx(tiny, encoder, place, samples=[])
    with pytest.raises(DataError, match="holds no image"):
        mp.quantise_onnx(tiny, encoder, place, validation={"none": TinySamples("none", 0)})
    assert not list(tmp_path.iterdir())
    mp.quantise_onnx(tiny, encoder, place)
    with pytest.raises(MedcorePruneError, match="int8 already"):
        mp.quantise_onnx(tiny, place, tmp_path / "again.onnx")
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(MedcorePruneError, match=r'pip install "medcore-prune\[onnx\]"'):
        mp.quantise_onnx(tiny, encoder, place)
