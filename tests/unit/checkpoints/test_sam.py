import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import AlignmentError, CheckpointError, MedcorePruneError
from medcore_prune.checkpoints.sam import load_checkpoint, load_sam, read_state_dict, save_training_checkpoint
from medcore_prune.models.pairs import require_aligned
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_plain_state_dict_as_sam_and_medsam_publish_it(tmp_path: Path) -> None:
    model = tiny_sam(1)
    torch.save(model.state_dict(), tmp_path / "sam.pth")
    assert same_weights(load_sam(TINY, tmp_path / "sam.pth"), model)


def test_training_checkpoint_of_medsam(tmp_path: Path) -> None:
    model = tiny_sam(1)
    content = {"model": model.state_dict(), "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3}
    torch.save(content, tmp_path / "medsam.pth")
    assert same_weights(load_sam(TINY, tmp_path / "medsam.pth"), model)


def test_our_own_training_checkpoint_and_data_parallel_prefix(tmp_path: Path) -> None:
    model = tiny_sam(1)
    save_training_checkpoint(tmp_path / "own.pth", model, step=7)
    assert same_weights(load_sam(TINY, tmp_path / "own.pth"), model)
    torch.save({"module." + name: value for name, value in model.state_dict().items()}, tmp_path / "ddp.pth")
    assert same_weights(load_sam(TINY, tmp_path / "ddp.pth"), model)


def test_safetensors(tmp_path: Path) -> None:
    model = tiny_sam(1)
    save_file(model.state_dict(), tmp_path / "sam.safetensors")
    assert same_weights(load_sam(TINY, tmp_path / "sam.safetensors"), model)


def test_prompt_encoder_is_frozen(tmp_path: Path) -> None:
    model = load_sam(TINY)
    assert not any(p.requires_grad for p in model.prompt_encoder.parameters())
    assert not model.training


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>sign in</html>", "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 375042383\n", "a Git LFS pointer"),
        (b"not a checkpoint at all", r"damaged, truncated, or holding more than tensors \(UnpicklingError\)"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "sam_vit_b_01ec64.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"sam_vit_b_01ec64.*{reason}") as caught:
        load_sam(TINY, path)
    assert "\n" not in str(caught.value)


def test_a_pruned_file_says_so(tmp_path: Path) -> None:
    mp.save(mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m50")), tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match=r"got a pruned model; load it with medcore_prune\.load"):
        load_sam(TINY, tmp_path / "small.safetensors")


def test_an_image_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CheckpointError, match=r"expected a checkpoint, got an image, by its name"):
        load_sam(TINY, tmp_path / "a.jpg")


def test_missing_file() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such file"):
        load_sam(TINY, "nowhere.pth")


def test_truncated_file(tmp_path: Path) -> None:
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    whole = (tmp_path / "sam.pth").read_bytes()
    (tmp_path / "sam.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"sam\.pth: not a checkpoint that can be read safely"):
        load_sam(TINY, tmp_path / "sam.pth")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match="holding more than tensors"):
            load_sam(TINY, tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_names_or_shapes_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    wider = SamShape(**{**TINY.__dict__, "embed_dim": 28})
    with pytest.raises(CheckpointError, match=r"pos_embed has shape \(1, 6, 6, 24\), expected \(1, 6, 6, 28\).*more"):
        load_sam(wider, tmp_path / "sam.pth")
    deeper = SamShape(**{**TINY.__dict__, "depth": 5})
    with pytest.raises(CheckpointError, match=r"image_encoder\.blocks\.4\.norm1\.weight is missing"):
        load_sam(deeper, tmp_path / "sam.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"expected a dictionary of tensors .* got list"):
        read_state_dict(tmp_path / "list.pth")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    state = tiny_sam().state_dict()
    state["image_encoder.blocks.1.mlp.lin1.bias"][3] = float("nan")
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN or infinity, first image_encoder\.blocks\.1\.mlp"):
        load_sam(TINY, tmp_path / "sam.pth")


def test_alignment_lists_the_first_differences() -> None:
    require_aligned(tiny_sam(0), tiny_sam(1))
    other = build_sam(SamShape(**{**TINY.__dict__, "window": 3}))
    with pytest.raises(AlignmentError, match=r"blocks\.0\.attn\.rel_pos_h has shape \(5, 6\), expected \(7, 6\)"):
        require_aligned(tiny_sam(), other)


def test_another_image_size_resizes_positions(tmp_path: Path) -> None:
    model = tiny_sam(1)
    torch.save(model.state_dict(), tmp_path / "sam.pth")
    larger = load_sam(TINY, tmp_path / "sam.pth", image_size=64)
    assert larger.image_encoder.pos_embed.shape == (1, 8, 8, 24)
    assert larger.image_encoder.blocks[1].attn.rel_pos_h.shape == (15, 6)
    assert larger.image_encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 8, 8)
    assert torch.equal(larger.image_encoder.blocks[0].attn.rel_pos_h, model.image_encoder.blocks[0].attn.rel_pos_h)


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes(kind: str) -> None:
    # parameters of SAM's image encoders: 89.7M, 308.3M, 637.0M
    count = sum(p.numel() for p in build_sam(kind, "meta").image_encoder.parameters())
    assert count == {"vit_b": 89_670_912, "vit_l": 308_278_272, "vit_h": 637_026_048}[kind]


@pytest.mark.parametrize("size", [50, 0, -8])
def test_an_image_size_that_patches_do_not_tile(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of the patch size 8"):
        build_sam(TINY, image_size=size)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder; expected a weights file"):
        load_sam(TINY, tmp_path)
    with pytest.raises(CheckpointError, match=r"small.safetensors: no such file$"):
        load_sam(TINY, tmp_path / "small.safetensors")


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("weights") / "own.pth"
    torch.save(build_sam("pocket", image_size=48, seed=3).state_dict(), place)
    return place


def test_kind_and_image_size_are_read_from_the_tensors(pocket: Path) -> None:
    named, alone = load_sam("pocket", pocket), load_sam(str(pocket))
    for model in (named, alone, load_sam(pocket), load_sam(path=pocket), load_checkpoint(pocket)):
        assert model.image_encoder.img_size == 48
        assert same_weights(model, build_sam("pocket", image_size=48, seed=3))


def test_another_image_size_than_the_files(pocket: Path) -> None:
    for model in (load_sam(pocket, image_size=96), load_checkpoint(pocket, image_size=96)):
        assert model.image_encoder.pos_embed.shape == (1, 12, 12, 120)
        assert model.image_encoder(torch.zeros(1, 3, 96, 96)).shape == (1, 64, 12, 12)


def test_a_kind_that_contradicts_the_tensors_is_refused_with_both_names(pocket: Path, tmp_path: Path) -> None:
    for load in (load_sam, lambda kind, path: load_checkpoint(path, kind)):
        with pytest.raises(
            CheckpointError, match=r"own\.pth: does not fit vit_l: its tensors are those of pocket; l"
        ) as e:
            load("vit_l", pocket)
        assert "\n" not in str(e.value)
    mp.save(build_sam("pocket"), tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match=r"small\.safetensors: holds a pocket, not a vit_l"):
        load_checkpoint(tmp_path / "small.safetensors", "vit_l")


def test_tensors_of_no_known_kind_need_a_shape(tmp_path: Path) -> None:
    torch.save(tiny_sam().state_dict(), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"own\.pth: its tensors are a SAM of no known kind: .*: give the sizes"):
        load_sam(tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"does not fit pocket: .*is missing; and \d+ more"):
        load_sam("pocket", tmp_path / "own.pth")


def test_a_name_that_is_neither_kind_nor_file() -> None:
    with pytest.raises(MedcorePruneError, match=r"unknown model 'vit_x': expected one of vit_b"):
        load_sam("vit_x")
    with pytest.raises(CheckpointError, match=r"medsam_vit_b\.pth: no such file"):
        load_sam("medsam_vit_b.pth")


def test_a_pruned_file_is_a_checkpoint_as_well(tmp_path: Path) -> None:
    small = mp.prune(build_sam("pocket", image_size=48), mp.make_plan(build_sam("pocket", "meta"), "h50_m70"))
    mp.save(small.half(), tmp_path / "small.safetensors")
    model = load_checkpoint(tmp_path / "small.safetensors", "pocket", 48)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    with pytest.raises(MedcorePruneError, match=r"small\.safetensors is for 48 px and not for 96: leave"):
        load_checkpoint(tmp_path / "small.safetensors", image_size=96)
