import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.checkpoints.onnx import extra, parts
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import build_model
from medcore_prune.models.protocol import batch_of, low_res_logits
from medcore_prune.models.switches import attention_of
from medcore_prune.pruning.surgery import lineage_of


@pytest.fixture(scope="module")
def small() -> nn.Module:
    model = tiny_sam()
    # one, two and four heads in a block: windows of 4 over 6 x 6 tokens are padded
    return mp.prune(model, mp.make_plan(model, "h50_m70", protect=1))


def samples() -> list[mp.data.Sample]:
    return list(TinySamples("own", 3))


def test_the_extra_is_named_where_it_is_missing(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(MedcorePruneError, match=r'needs onnx, onnxscript, onnxruntime: pip install "medcore-prune\['):
        mp.export_onnx(small, tmp_path / "a.onnx")


@pytest.mark.parametrize("part", list(parts.PARTS))
def test_onnx_runtime_gives_what_pytorch_gives(small: nn.Module, part: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    report = mp.export_onnx(small, tmp_path / "a.onnx", part, samples=samples())
    assert 0 < max(report.differences.values()) < 1e-4
    assert report.images == 3
    # restated: from the file alone, at a batch that the comparison did not use
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    images, boxes = batch_of([(sample.image, sample.box) for sample in TinySamples("other", 5)], Frame(48))
    with torch.no_grad():
        embedding: torch.Tensor = small.image_encoder(images)  # type: ignore[operator]
        expected = embedding if part == "encoder" else low_res_logits(small, images, boxes)
    values = {"image": images.numpy(), "box": boxes.numpy(), "embedding": embedding.numpy()}
    got = session.run(None, {each.name: values[each.name] for each in session.get_inputs()})
    torch.testing.assert_close(torch.from_numpy(got[0]), expected, rtol=1e-3, atol=1e-4)
    if part != "encoder":
        torch.testing.assert_close(torch.from_numpy(got[1]), expected.sigmoid(), rtol=1e-3, atol=1e-4)
    facts = json.loads({p.key: p.value for p in onnx.load(str(tmp_path / "a.onnx")).metadata_props}["medcore_prune"])
    assert facts["level"] == lineage_of(small).plan.level  # type: ignore[union-attr]
    assert facts["protocol"]["name"] == "medsam"


@pytest.mark.parametrize("part", list(parts.PARTS))
def test_windows_that_overhang_are_exported(part: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    # 48, 24 and 12 tokens a side in windows of 7 and 14
    model = build_model("lite_medsam", image_size=96)
    report = mp.export_onnx(model, tmp_path / "a.onnx", part, samples=samples())
    assert 0 < max(report.differences.values()) < 1e-4


def test_attention_by_parts_and_a_training_model_are_exported_and_left_alone(small: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = mp.set_attention(copy.deepcopy(small), "sdpa").train()
    report = mp.export_onnx(model, tmp_path / "a.onnx", "encoder", samples=samples())
    assert max(report.differences.values()) < 1e-4
    assert (attention_of(model), model.training) == ("sdpa", True)


def test_a_file_that_gives_something_else_is_not_kept(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def another(_module: nn.Module, *rest: object) -> None:
        other = parts.PARTS["encoder"].make(tiny_sam(5)).eval()
        parts._torchscript(other, *rest)  # type: ignore[arg-type]

    monkeypatch.setitem(parts.EXPORTERS, "torchscript", another)
    with pytest.raises(MedcorePruneError, match=r"embedding by .* differ from PyTorch's.*nothing was written"):
        mp.export_onnx(small, tmp_path / "a.onnx", "encoder", samples=samples())
    assert not list(tmp_path.iterdir())


def test_a_file_that_onnx_refuses_is_said_in_one_line(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")

    def broken(*arguments: Any) -> None:
        parts._torchscript(*arguments)
        content = onnx.load(str(arguments[-1]))
        content.graph.node[0].op_type = "NoSuchOperator"
        onnx.save(content, str(arguments[-1]))

    monkeypatch.setitem(parts.EXPORTERS, "torchscript", broken)
    with pytest.raises(MedcorePruneError, match=r"does not run .*No Op registered for NoSuchOp.*nothing was") as caught:
        mp.export_onnx(small, tmp_path / "a.onnx", "encoder", samples=samples())
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_error_of_onnx_runtime_has_its_first_line(
    small: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")

    def fails(*_arguments: Any, **_settings: Any) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("cannot allocate\nat some place")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(
        MedcorePruneError, match=r"a\.onnx: the exported file does not run .*\(cannot allocate\): nothing"
    ):
        mp.export_onnx(small, tmp_path / "a.onnx", "encoder", samples=samples())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said_before_work(small: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    place = tmp_path / "a.onnx"
    for arguments, message in (
        ({"part": "neck"}, "unknown part 'neck': expected one of encoder, decoder, whole"),
        ({"exporter": "none"}, "unknown exporter 'none'"),
        ({"samples": samples()[:1]}, "at least two images"),
    ):
        with pytest.raises(MedcorePruneError, match=message):
            mp.export_onnx(small, place, **arguments)  # type: ignore[arg-type]
    with pytest.raises(MedcorePruneError, match=r"ends in \.onnx"):
        mp.export_onnx(small, tmp_path / "a.pb")
    with pytest.raises(MedcorePruneError, match=r"torch.float16: call \.float"):
        mp.export_onnx(copy.deepcopy(small).half(), place)
    with pytest.raises(MedcorePruneError, match="one ONNX file holds 2: prune it first"):
        mp.export_onnx(mp.build_sam("vit_h", "meta"), place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "runs"), [("FLOAT16", True), ("BFLOAT16", False)])
def test_onnx_runtime_has_no_bfloat16_on_a_processor(kind: str, runs: bool) -> None:
    """Why `export` offers no such precision; where this fails, see docs/speed.md."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    number = getattr(onnx.TensorProto, kind)
    refusals = []
    for operator, shapes in (
        ("Conv", ([1, 2, 4, 4], [2, 2, 3, 3])),
        ("MatMul", ([2, 4], [4, 2])),
        ("Softmax", ([2, 4],)),
    ):
        inputs = [onnx.helper.make_tensor_value_info(f"x{at}", number, shape) for at, shape in enumerate(shapes)]
        node = onnx.helper.make_node(operator, [each.name for each in inputs], ["y"])
        graph = onnx.helper.make_graph([node], "one", inputs, [onnx.helper.make_tensor_value_info("y", number, None)])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        try:
            runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception as error:
            refusals.append(str(error))
    assert len(refusals) == (0 if runs else 3)
    assert all("NOT_IMPLEMENTED" in each or "is invalid" in each for each in refusals)
