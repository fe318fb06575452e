import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from segment_anything import SamPredictor
from tiny import tiny_batch, tiny_sam
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError
from medcore_prune.checkpoints.header import DIGEST_KEY, KEY, _digest, is_pruned_file
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.evaluation.evaluate import macro_average
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.sam_shape import SHAPES, kind_of
from medcore_prune.models.segment_anything import build_sam, shape_of
from medcore_prune.pruning.surgery import lineage_of


@pytest.fixture(scope="module")
def twice() -> nn.Module:
    model = tiny_sam()
    once = mp.prune(model, mp.make_plan(model, "h50_m30"))
    return mp.prune(once, mp.make_plan(once, "h20_m40"))


@pytest.fixture
def small(twice: nn.Module) -> nn.Module:
    return copy.deepcopy(twice)


@pytest.fixture(scope="module")
def written(twice: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("written") / "small.safetensors"
    mp.save(twice, place, provenance={"adapted": "a" * 64})
    return place


@pytest.fixture
def saved(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "small.safetensors"))


@torch.no_grad()
@pytest.mark.parametrize("level", [None, "h0_m0", "h50_m70", "h84_m95"])
def test_a_loaded_model_is_the_saved_one_bit_for_bit(level: str | None, tmp_path: Path) -> None:
    model = tiny_sam()
    if level:
        model = mp.prune(model, mp.make_plan(model, level))
    mp.save(model, tmp_path / "model.safetensors")
    loaded = mp.load(tmp_path / "model.safetensors")
    images, boxes, _ = tiny_batch()
    assert torch.equal(low_res_logits(loaded, images, boxes), low_res_logits(model, images, boxes))
    assert not loaded.training
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == flags
    assert not any(buffer.is_meta for buffer in loaded.buffers())


@torch.no_grad()
def test_what_it_remembers_survives_and_can_be_cut_again(small: nn.Module, saved: Path, tmp_path: Path) -> None:
    loaded = mp.load(saved)
    assert lineage_of(loaded).plan == lineage_of(small).plan
    again = mp.prune(loaded, mp.make_plan(loaded, "h0_m40", protect=0))
    mp.save(again, tmp_path / "again.safetensors", provenance={"recovered": True})
    header = read_header(tmp_path / "again.safetensors")
    assert header.plan.blocks[0].heads == 4
    assert header.plan.blocks[0].neurons == 96
    assert set(header.plan.blocks[0].keep_neurons) < set(lineage_of(small).plan.blocks[0].keep_neurons)  # type: ignore[union-attr]
    # original indices: the kept columns are those of the whole model
    whole = tiny_sam().state_dict()["image_encoder.blocks.0.mlp.lin1.weight"]
    kept = mp.load(tmp_path / "again.safetensors").state_dict()["image_encoder.blocks.0.mlp.lin1.weight"]
    assert torch.equal(kept, whole[list(header.plan.blocks[0].keep_neurons)])
    assert header.provenance == {"adapted": "a" * 64, "recovered": True, "medcore_prune": mp.__version__}


@pytest.mark.parametrize("kind", list(SHAPES))
def test_the_shape_is_read_back_from_a_pruned_model_of_every_kind(kind: str) -> None:
    model = build_sam(kind, "meta", image_size=SHAPES[kind].patch_size * 6)
    shape = shape_of(mp.prune(model, mp.make_plan(model, "h50_m70"), inplace=True))
    assert kind_of(shape) == kind
    assert shape.image_size == SHAPES[kind].patch_size * 6
    assert shape.num_heads == SHAPES[kind].num_heads


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_is_kept(small: nn.Module, dtype: torch.dtype, tmp_path: Path) -> None:
    mp.save(small.to(dtype), tmp_path / "half.safetensors")
    loaded = mp.load(tmp_path / "half.safetensors")
    assert all(
        torch.equal(value, small.state_dict()[name]) and value.dtype == dtype
        for name, value in loaded.state_dict().items()
    )


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], sign: bool = True) -> None:
    """Change the header; with a matching digest, as somebody would who knows the format."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    content = json.loads(metadata[KEY])
    change(content)
    metadata[KEY] = json.dumps(content)
    if sign:
        metadata[DIGEST_KEY] = _digest(metadata[KEY])
    save_file(load_file(path), path, metadata=metadata)


def _pixels(name: str, value: Any) -> Any:
    return lambda content: content["protocol"].update({name: [value, 1.0, 1.0]})


def _another_plan(content: dict[str, Any]) -> None:
    content["plan"]["blocks"][0]["keep_heads"] = "0-3"


def test_a_number_beyond_all_in_the_header_is_refused(saved: Path) -> None:
    with safe_open(saved, "pt") as file:
        metadata = dict(file.metadata())
    metadata[KEY] = metadata[KEY].replace('"pixel_mean": [0.0,', '"pixel_mean": [1e400,')
    metadata[DIGEST_KEY] = _digest(metadata[KEY])
    save_file(load_file(saved), saved, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"pixel_mean is \[inf, 0.0, 0.0\], expected three numbers of at most"):
        mp.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="medcore_prune.model/7"), "model/7, this version reads .*: upgrade"),
        (lambda c: c.update(format="else"), "format 'else', expected"),
        (lambda c: c["shape"].update(embed_dim=10**12), "embed_dim is 1000000000000, expected"),
        (lambda c: c["shape"].update(depth=True), "depth is True"),
        (lambda c: c["shape"].update(image_size=16 * 1024), "structure does not fit the weights"),
        (lambda c: c["shape"].update(global_blocks=[9]), "global_blocks"),
        (lambda c: c["shape"].update(num_heads=5), "heads do not divide"),
        (lambda c: c["shape"].update(decoder_heads=7), "cannot be built"),
        (lambda c: c["shape"].update(decoder_mlp_dim=64), "does not fit the weights: .*lin1"),
        (lambda c: c["shape"].pop("window"), "expected the sizes"),
        (_another_plan, "does not fit the weights: 3 differ, first .*blocks.0.attn"),
        (lambda c: c["plan"]["blocks"].pop(), "other sizes than its shape"),
        (lambda c: c.pop("provenance"), "lacks 'provenance'"),
        (lambda c: c.update(model_hash="0" * 64), "not those that were written"),
        (lambda c: c.update(model_hash="x"), "no SHA-256"),
        (
            lambda c: c["protocol"].update(pixel_std=[255.0, "x", 255.0]),
            r"pixel_std is \[255.0, 'x', 255.0\], expected three",
        ),
        (lambda c: c["protocol"].pop("pixel_mean"), "pixel_mean is None, expected three numbers"),
        (_pixels("pixel_mean", float("inf")), r"pixel_mean is \[inf, .*expected three numbers of at most 65000: write"),
        (_pixels("pixel_mean", float("nan")), r"pixel_mean is \[nan"),
        (_pixels("pixel_mean", 10**400), r"pixel_mean is \[10000"),
        (_pixels("pixel_std", float("inf")), r"pixel_std is \[inf, .*expected three numbers from 0.0001 to 65000"),
        (_pixels("pixel_std", 0.0), r"pixel_std is \[0.0"),
        (_pixels("pixel_std", -1.0), r"pixel_std is \[-1.0"),
        (_pixels("pixel_std", 1e-300), r"pixel_std is \[1e-300"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        mp.load(saved)


def test_a_header_changed_in_passing_is_refused(saved: Path) -> None:
    rewrite(saved, lambda content: content["provenance"].update(adapted="b" * 64), sign=False)
    with pytest.raises(CheckpointError, match="changed after it was written"):
        mp.load(saved)


def test_sizes_are_refused_before_anything_is_built(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.checkpoints.pruned._whole", lambda *_: pytest.fail("it was built"))
    rewrite(saved, lambda content: content["shape"].update(depth=200, global_blocks=[1, 3]))
    with pytest.raises(CheckpointError, match="other sizes than its shape"):
        mp.load(saved)


def test_damaged_and_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match="damaged, truncated"):
        mp.load(cut)
    flipped = bytearray(content)
    flipped[-2] ^= 1
    cut.write_bytes(flipped)
    with pytest.raises(CheckpointError, match="not those that were written"):
        mp.load(cut)
    save_file({"weight": torch.zeros(2)}, cut)
    with pytest.raises(CheckpointError, match=r"got another safetensors file: .*load_sam"):
        mp.load(cut)
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"expected a file that medcore_prune\.save wrote"):
        mp.load(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        mp.load(tmp_path / "nowhere.safetensors")
    assert is_pruned_file(saved)
    assert not is_pruned_file(cut)
    assert not is_pruned_file(tmp_path / "nowhere.safetensors")


def test_other_types_and_values_that_are_not_finite_are_refused(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    state = load_file(saved)
    name = "image_encoder.pos_embed"
    save_file({**state, name: state[name].to(torch.int32)}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"pos_embed: expected \(1, 6, 6, 24\), got .* of whole numbers"):
        mp.load(saved)
    save_file({**state, name: state[name].to(torch.float8_e5m2)}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match="pos_embed is F8_E5M2, expected one of F16"):
        mp.load(saved)
    state[name][0, 0, 0, 0] = torch.nan
    save_file(state, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN or infinity, first image_encoder\.pos_embed"):
        mp.load(saved)


def test_what_cannot_be_saved_leaves_no_file(small: nn.Module, tmp_path: Path) -> None:
    place = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="expected a whole Sam"):
        mp.save(small.image_encoder, place)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        mp.save(small, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="provenance cannot be stored"):
        mp.save(small, place, provenance={"when": object()})
    with pytest.raises(CheckpointError, match="the plan does not explain the model: block 0 has"):
        mp.save(small, place, plan=mp.make_plan(tiny_sam(), "h50_m70"))
    with pytest.raises(CheckpointError, match="not for the whole model"):
        mp.save(small, place, plan=mp.make_plan(small, "h0_m0"))
    broken = copy.deepcopy(small)
    broken.image_encoder.pos_embed.data[:] = torch.inf  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        mp.save(broken, place)
    assert not list(tmp_path.iterdir())


def test_sam_predictor_runs_and_does_no_silent_harm(tmp_path: Path) -> None:
    model = mp.zoo.pocket("adapted")
    mp.save(mp.prune(model, mp.make_plan(model, "h0_m10")), tmp_path / "small.safetensors")
    loaded = mp.load(tmp_path / "small.safetensors")
    assert loaded.pixel_mean.flatten().tolist() == [0.0] * 3  # type: ignore[union-attr,operator]
    assert loaded.pixel_std.flatten().tolist() == [255.0] * 3  # type: ignore[union-attr,operator]
    samples = mp.data.phantoms.make("phantom_polyp_a", count=4)
    other = SamPredictor(loaded)
    dice = []
    for sample in samples:
        other.set_image(sample.image)
        masks, _, _ = other.predict(box=np.array(sample.box), multimask_output=False)
        dice.append(2 * (masks[0] & sample.mask).sum() / (masks[0].sum() + sample.mask.sum()))
    ours = macro_average(mp.evaluate(loaded, {"polyps": samples}, eval_size="original", progress=False))["dice"]
    # square images: only the stretch of each image's range differs
    assert np.mean(dice) > ours - 0.1
    assert ours > 0.7


def test_a_model_of_another_pixel_scale_keeps_it(small: nn.Module, tmp_path: Path) -> None:
    mean, deviation = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    small.pixel_mean = torch.tensor(mean).view(-1, 1, 1)
    small.pixel_std = torch.tensor(deviation).view(-1, 1, 1)
    mp.save(small, tmp_path / "a.safetensors")
    loaded = mp.load(tmp_path / "a.safetensors")
    image = (torch.rand((3, 40, 48), generator=torch.Generator().manual_seed(0)) * 255).round()
    inputs = [{"image": image, "original_size": (40, 48), "boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]])}]
    with torch.no_grad():
        before, after = (model(inputs, multimask_output=False)[0]["low_res_logits"] for model in (small, loaded))
    assert torch.equal(before, after)
    small.pixel_std = torch.full((3, 1, 1), torch.inf)
    with pytest.raises(
        CheckpointError, match=r"pixel_std is \[inf, inf, inf\], expected three numbers from 0.0001 to 65000"
    ):
        mp.save(small, tmp_path / "b.safetensors")
