"""Checkpoints as scripts, wrappers, `transformers` and adapters leave them: opened, or refused by a name in them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, tiny_batch, tiny_sam
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneWarning
from medcore_prune.checkpoints.sam import load_checkpoint, load_sam, read_state_dict
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam

MODEL = tiny_sam(3)
STATE = MODEL.state_dict()
QKV = "image_encoder.blocks.1.attn.qkv"


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in STATE.items()}


def loaded(content: Any, place: Path, shape: SamShape = TINY) -> dict[str, Tensor]:
    torch.save(content, place / "own.pth")
    return load_sam(shape, place / "own.pth").state_dict()


def same(found: dict[str, Tensor], wanted: dict[str, Tensor] = STATE) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(value, wanted[name]) for name, value in found.items())


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "sam.",
        "module._orig_mod.",
        "model._orig_mod.",
        "model.sam.module.",
        "net.x.",
    ],
)
@pytest.mark.parametrize(
    "keys", [(), ("model",), ("state_dict",), ("model_state_dict",), ("net",), ("ema",), ("net", "model")]
)
def test_prefixes_and_keys(prefix: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    content: Any = prefixed(prefix)
    for key in keys:
        content = {key: content, "epoch": np.int64(3), "loss": np.float32(0.5), "optimizer": {"state": {}}, "name": "x"}
    assert same(loaded(content, tmp_path))


def test_wrappers_inside_of_names_and_losses_beside_the_model(tmp_path: Path) -> None:
    renamed = {
        name.replace("image_encoder.", "image_encoder._orig_mod.")
        .replace("blocks.1.", "blocks.1._checkpoint_wrapped_module.")
        .replace("mask_decoder.", "mask_decoder.module."): value
        for name, value in STATE.items()
    }
    assert same(loaded(renamed, tmp_path))
    assert same(loaded({"state_dict": prefixed("model.") | {"loss_fn.weight": torch.ones(2)}}, tmp_path))


def test_the_choice_among_several_keys_is_said(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in STATE.items()}
    with pytest.warns(MedcorePruneWarning, match=r"own\.pth holds weights under model and ema: those under model are"):
        assert same(loaded({"ema": other, "model": STATE}, tmp_path))


def test_two_models_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"several models, student\.\S+ and teacher\.\S+ among them: give a file"):
        loaded(prefixed("student.") | {f"teacher.{name}": value + 1 for name, value in STATE.items()}, tmp_path)
    # MedSAM's training class beside the model that it was made of
    assert same(loaded(prefixed("sam.") | STATE, tmp_path))


def test_what_holds_no_weights_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"under the key 'model', .*'ema'\), got one with the keys optimizer, epoch"
    ):
        loaded({"optimizer": {"lr": 0.1}, "epoch": 3}, tmp_path)


@pytest.fixture(scope="module")
def hugging_face() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    vision = {
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 48,
        "patch_size": 8,
        "window_size": 4,
        "global_attn_indexes": [1, 3],
        "output_channels": 16,
        "mlp_dim": 96,
        "num_pos_feats": 8,
    }
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
        "layer_norm_eps": 1e-5,
    }
    prompts = {"hidden_size": 16, "image_size": 48, "patch_size": 8, "mask_input_channels": 16}
    torch.manual_seed(0)
    config = transformers.SamConfig(vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompts)
    model: nn.Module = transformers.SamModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    return model


def test_a_sam_of_transformers_computes_the_same(hugging_face: Any, tmp_path: Path) -> None:
    hugging_face.save_pretrained(tmp_path / "hf")
    torch.save(hugging_face.state_dict(), tmp_path / "pytorch_model.bin")
    images, boxes, _ = tiny_batch()
    with torch.no_grad():
        wanted = low_res_logits(hugging_face, images, boxes)
        for place in (tmp_path / "hf", tmp_path / "hf" / "model.safetensors", tmp_path / "pytorch_model.bin"):
            got = low_res_logits(load_sam(TINY, place), images, boxes)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"hf \(a SamModel of transformers, under .*no known kind"):
        load_sam(tmp_path / "hf")


def test_positions_of_prompts_that_disagree_are_refused(hugging_face: Any, tmp_path: Path) -> None:
    state = hugging_face.state_dict()
    name = "shared_image_embedding.positional_embedding"
    without = {key: value for key, value in state.items() if key != name}
    assert same(loaded(without, tmp_path), loaded(state, tmp_path))
    with pytest.raises(CheckpointError, match=r"positional_encoding_gaussian_matrix, and differ: save the model anew"):
        loaded({**state, name: state[name] + 1}, tmp_path)


def test_weights_in_several_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"in several files \(model\.safetensors\.index\.json\): save them in one"
    ):
        load_sam(TINY, tmp_path)


@pytest.mark.parametrize("prefix", ["", "image_encoder.", "model.image_encoder."])
@pytest.mark.parametrize("read", [lambda path: load_sam(TINY, path), load_sam, load_checkpoint])
def test_an_encoder_alone_is_refused(prefix: str, read: Any, tmp_path: Path) -> None:
    own = "image_encoder."
    state = {prefix + name.removeprefix(own): value for name, value in STATE.items() if name.startswith(own)}
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(
        CheckpointError, match=r"an image encoder alone, \S*\S+ and no mask_decoder: load the whole model"
    ):
        read(tmp_path / "encoder.safetensors")
    # what the message says
    model: Any = tiny_sam(0)
    model.image_encoder.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    assert same(model.image_encoder.state_dict(), MODEL.image_encoder.state_dict())  # type: ignore[union-attr,operator]


def test_relative_positions_of_another_grid_are_interpolated_as_when_it_runs(tmp_path: Path) -> None:
    whole: Any = build_sam("pocket", seed=1)
    with torch.no_grad():
        for block in whole.image_encoder.blocks:
            block.attn.rel_pos_h.normal_(), block.attn.rel_pos_w.normal_()
    state = whole.state_dict()
    # 6 x 6 tokens, as fine-tuners make them that resize the positions alone
    state["image_encoder.pos_embed"] = state["image_encoder.pos_embed"][:, :6, :6].clone()
    torch.save(state, tmp_path / "small.pth")
    with pytest.warns(
        MedcorePruneWarning, match=r"for 12 x 12 tokens, its positions for 6 x 6 \(48 px\).*interpolated"
    ):
        got = load_sam(tmp_path / "small.pth")
    runs: Any = build_sam("pocket", image_size=48)
    for index in (2, 5, 8, 11):
        for name in ("rel_pos_h", "rel_pos_w"):
            setattr(runs.image_encoder.blocks[index].attn, name, nn.Parameter(torch.zeros(23, 10)))
    runs.load_state_dict(state, strict=False)
    images = torch.rand(1, 3, 48, 48)
    torch.testing.assert_close(got.image_encoder(images), runs.image_encoder(images))  # type: ignore[operator]
    torch.save(build_sam("pocket", image_size=48, seed=1).state_dict(), tmp_path / "own.pth")
    assert mp.load_sam(tmp_path / "own.pth").image_encoder.img_size == 48  # type: ignore[union-attr]


def lora(style: str, layer: str = QKV, rank: int = 2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    out, size = STATE[f"{layer}.weight"].shape
    pair = {"A": torch.randn((rank, size), generator=rng), "B": torch.randn((out, rank), generator=rng)}
    return {style.format(layer=layer, side=side): value for side, value in pair.items()}


def with_base_layer(names: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(f"{QKV}.", f"{QKV}.base_layer."): value for name, value in names.items()}


LORA = "base_model.model.{layer}.lora_{side}.default.weight"


@pytest.mark.parametrize(
    "content",
    [
        {"model": STATE | lora("{layer}.lora_{side}"), "lora_alpha": 6},
        {"state_dict": STATE | lora("{layer}.lora_{side}.weight") | {f"{QKV}.alpha": torch.tensor(6.0)}},
        {
            "model": {f"base_model.model.{k}": v for k, v in with_base_layer(STATE).items()} | lora(LORA),
            "config": {"r": 2, "lora_alpha": 6},
        },
    ],
)
def test_lora_with_a_stated_alpha_is_merged(content: Any, tmp_path: Path) -> None:
    first, second = lora("{side}").values()
    wanted = STATE[f"{QKV}.weight"].clone()
    for row in range(len(wanted)):
        for column in range(wanted.shape[1]):
            wanted[row, column] += 6 / 2 * sum(second[row, k] * first[k, column] for k in range(2))
    found = loaded(content, tmp_path)
    torch.testing.assert_close(found.pop(f"{QKV}.weight"), wanted, rtol=1e-5, atol=1e-5)
    assert same(found, {name: value for name, value in STATE.items() if name != f"{QKV}.weight"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (STATE | lora("{layer}.lora_{side}"), f"{QKV}.lora_A is LoRA's, and the file does not say one alpha"),
        ({"model": STATE | lora("{layer}.lora_{side}"), "lora_alpha": float("nan")}, "does not say one alpha"),
        ({"model": STATE | lora("{layer}.lora_{side}"), "lora_alpha": 4, "use_rslora": True}, "scaled as rsLoRA"),
        (
            lora("{layer}.lora_{side}") | {"image_encoder.x": torch.ones(1)},
            f"{QKV}.lora_A is LoRA's, without the weight",
        ),
        (
            {"model": STATE | lora("{layer}.lora_{side}.a") | lora("{layer}.lora_{side}.b"), "lora_alpha": 4},
            f"{QKV} has several adapters",
        ),
        (
            STATE | {"image_encoder.blocks.0.MLP_Adapter.D_fc1.weight": torch.ones(3, 24)},
            "blocks.0.MLP_Adapter.D_fc1.weight",
        ),
        (STATE | {f"{QKV}.linear_a_q.weight": torch.ones(4, 24)}, f"{QKV}.linear_a_q.weight is of an adapter"),
        (STATE | {"mask_decoder.hq_token.weight": torch.ones(1, 16)}, "mask_decoder.hq_token.weight is of SAM-HQ"),
        (
            STATE | {"mask_decoder.mask_tokens.weight": torch.ones(9, 16)},
            "mask_decoder.mask_tokens.weight has 9 mask tokens, SAM's decoder 4",
        ),
    ],
)
def test_what_is_more_than_a_sam_is_refused_by_a_name_that_is_there(content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=re.escape(reason)) as caught:
        loaded(content, tmp_path)
    assert "\n" not in str(caught.value)
    assert re.search(r"merge|give", str(caught.value))


@pytest.mark.parametrize("around", [lambda own: own, lambda own: {"model": own}, lambda own: {"x": [{"y": (own,)}]}])
@pytest.mark.parametrize("kind", [dict, list])
def test_what_contains_itself_is_refused(around: Any, kind: type, tmp_path: Path) -> None:
    own: Any = kind()
    if kind is dict:
        own["model"] = own
    else:
        own.append(own)
    torch.save(around(own), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=rf"a {kind.__name__} that contains itself"):
        read_state_dict(tmp_path / "own.pth")


def test_numbers_of_numpy_are_read_and_nothing_else_of_it(tmp_path: Path) -> None:
    assert same(loaded({"model": STATE, "loss": np.float64(0.1), "best": {"dice": np.float16(0.5)}}, tmp_path))
    with pytest.raises(CheckpointError, match="holding more than tensors"):
        loaded({"model": STATE, "scores": np.array([object()])}, tmp_path)
