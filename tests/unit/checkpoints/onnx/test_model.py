"""A model whose encoder is an ONNX file gives what the PyTorch model gives, and refuses what it cannot do."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.checkpoints.onnx import extra
from medcore_prune.models.protocol import embed, low_res_logits

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def small() -> nn.Module:
    model = tiny_sam()
    return mp.prune(model, mp.make_plan(model, "h50_m70", protect=1))


@pytest.fixture(scope="module")
def encoder(small: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    mp.export_onnx(small, place, "encoder")
    return place


@torch.no_grad()
def test_it_gives_what_the_model_gives(small: nn.Module, encoder: Path) -> None:
    images, boxes, _ = tiny_batch(3)
    found = mp.OnnxModel(small, encoder)
    torch.testing.assert_close(embed(found, images), embed(small, images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        low_res_logits(found, images, boxes), low_res_logits(small, images, boxes), rtol=1e-4, atol=1e-4
    )


def test_evaluation_is_the_same(small: nn.Module, encoder: Path) -> None:
    data = {"own": TinySamples("own", 3)}
    given = mp.evaluate(small, data, progress=False)
    found = mp.evaluate(mp.OnnxModel(small, encoder, threads=1), data, progress=False)
    assert given["dice"].between(0, 1, inclusive="neither").any()
    pd.testing.assert_frame_equal(found, given, rtol=1e-4, atol=1e-4)


def test_the_encoder_is_the_file_and_not_the_model(small: nn.Module, encoder: Path) -> None:
    model = copy.deepcopy(small)
    found = mp.OnnxModel(model, encoder)
    images = tiny_batch(1)[0]
    before = embed(found, images)
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    assert torch.equal(embed(found, images), before)


def test_a_predictor_takes_it(small: nn.Module, encoder: Path) -> None:
    image = TinySamples("own", 1)[0].image
    masks = [
        mp.Predictor(each).set_image(image).predict((8, 8, 40, 30)) for each in (small, mp.OnnxModel(small, encoder))
    ]
    assert masks[0].shape == image.shape[:2]
    assert np.array_equal(*masks)


def test_a_file_of_another_model_or_part_is_refused(small: nn.Module, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(MedcorePruneError, match="exported from another model"):
        mp.OnnxModel(tiny_sam(5), encoder)
    mp.export_onnx(small, tmp_path / "whole.onnx", "whole")
    with pytest.raises(MedcorePruneError, match="part 'whole', expected encoder"):
        mp.OnnxModel(small, tmp_path / "whole.onnx")


@pytest.mark.parametrize("content", [None, b"", b"no protobuf", "stripped", "list", "cut"])
def test_a_file_that_is_none_of_ours_is_refused(
    content: bytes | str | None, small: nn.Module, encoder: Path, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    place = tmp_path / "other.onnx"
    if isinstance(content, bytes):
        place.write_bytes(content)
    elif content == "cut":
        place.write_bytes(encoder.read_bytes()[:1000])
    elif content is not None:
        model = onnx.load(str(encoder))
        onnx.helper.set_model_props(model, {"medcore_prune": "[1]"} if content == "list" else {})
        onnx.save(model, str(place))
    with pytest.raises(MedcorePruneError, match=r"other\.onnx: no ONNX file of this package"):
        mp.OnnxModel(small, place)


def test_what_cuts_or_calibrates_refuses_it(small: nn.Module, encoder: Path) -> None:
    found = mp.OnnxModel(small, encoder)
    refused: list[Callable[[], object]] = [
        lambda: mp.make_plan(found, "h50_m70"),
        lambda: mp.export_onnx(found, encoder.with_name("again.onnx"), "encoder"),
        lambda: mp.count(found),
    ]
    for each in refused:
        with pytest.raises(MedcorePruneError, match="an ONNX file, which has no blocks"):
            each()
    assert not encoder.with_name("again.onnx").exists()


def test_the_extra_is_named_where_it_is_missing(
    small: nn.Module, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(MedcorePruneError, match=r'pip install "medcore-prune\[onnx\]"'):
        mp.OnnxModel(small, encoder)
