"""SAM-HQ: its masks restated, its blocks cut, its files read and written; what would pass for it is refused."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hq import BESIDE, hq_state, tiny_hq
from tiny import TINY, tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneError
from medcore_prune.calibration.interventions import RiskData, exact_interventions, parts_of, risk, unit_replaced
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.models.families import family_of
from medcore_prune.models.protocol import decode_scored, embed, low_res_logits, of_neck
from medcore_prune.models.sam_hq.family import build_sam_hq
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.objective import outputs_of


def logits_of(model: nn.Module) -> Tensor:
    images, boxes, _ = tiny_batch()
    with torch.no_grad():
        return low_res_logits(model, images, boxes)


def restated(model: nn.Module, image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (4 h, 4 w) and score of one image, (3, S, S), and one box, step by step as its authors describe it."""
    encoder, prompts, decoder = model.image_encoder, model.prompt_encoder, model.mask_decoder
    tokens = encoder.patch_embed(image[None]) + encoder.pos_embed
    streams = []
    for block in encoder.blocks:
        tokens = block(tokens)
        streams.append(tokens)
    embedding = encoder.neck(tokens.permute(0, 3, 1, 2))
    early = streams[TINY.global_blocks[0]].permute(0, 3, 1, 2)  # "after the first global attention block"
    sparse, dense = prompts(points=None, boxes=box[None], masks=None)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hf_token.weight])
    state, source = decoder.transformer(embedding + dense, prompts.get_dense_pe(), torch.cat([own, sparse[0]])[None])
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(embedding.shape))
    fused = decoder.embedding_encoder(embedding) + decoder.compress_vit_feat(early)
    feature = decoder.embedding_maskfeature(upscaled) + fused
    kernels = [decoder.output_hypernetworks_mlps[n](state[0, 1 + n]) for n in range(4)] + [decoder.hf_mlp(state[0, 5])]
    masks = [F.conv2d(upscaled, kernel[None, :, None, None])[0, 0] for kernel in kernels[:4]]
    hq = F.conv2d(feature, kernels[4][None, :, None, None])[0, 0]
    return masks[0] + hq, decoder.iou_prediction_head(state[0, 0])[0]


def test_masks_are_those_of_the_paper() -> None:
    model, (images, boxes, _) = tiny_hq(), tiny_batch()
    with torch.no_grad():
        logits, scores = decode_scored(model, embed(model, images), boxes)
        for n in range(len(images)):
            expected, score = restated(model, images[n], boxes[n])
            torch.testing.assert_close(logits[n, 0], expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(scores[n], score, rtol=1e-5, atol=1e-6)


def test_without_its_token_it_is_the_sam_that_it_was_trained_from() -> None:
    model, sam = tiny_hq(), tiny_sam()
    with torch.no_grad():
        for parameter in model.mask_decoder.hf_mlp.layers[-1].parameters():  # type: ignore[union-attr]
            parameter.zero_()
    sam.load_state_dict(model.state_dict(), strict=False)
    # the token itself is one more that the others attend to, so that the encoder alone is the same to the bit
    images = tiny_batch()[0]
    with torch.no_grad():
        both = embed(model, images), embed(sam, images)
    assert torch.equal(of_neck(model, both[0]), both[1])
    assert of_neck(sam, both[1]) is both[1]
    assert both[0].shape[1] == TINY.out_channels + TINY.embed_dim


@pytest.mark.parametrize("level", ["h50_m50", "h25_m70"])
def test_removed_is_masked_and_a_file_gives_the_same(level: str, tmp_path: Path) -> None:
    model, images = tiny_hq(), tiny_batch()[0]
    plan = mp.plan(model, level, "random", protect=0)
    assert mp.verify(model, plan, images) < 1e-5
    small = mp.prune(mp.set_attention(model, "sdpa"), plan)
    mp.save(small, tmp_path / "small.safetensors")
    header = read_header(tmp_path / "small.safetensors")
    assert header.kind == "sam_hq"
    assert "SAM-HQ" in header.protocol["mask"]
    loaded = mp.load(tmp_path / "small.safetensors")
    torch.testing.assert_close(logits_of(loaded), logits_of(small), rtol=1e-4, atol=1e-5)
    # and a second cut, with its own decoder untouched
    again = mp.prune(loaded, mp.plan(loaded, "h50_m50", "magnitude", protect=0))
    assert mp.count(again).params < mp.count(loaded).params
    for name, value in model.mask_decoder.state_dict().items():
        assert torch.equal(again.mask_decoder.state_dict()[name], value)


def test_the_early_block_counts() -> None:
    """What is cut before the first global block's end changes masks through both ways."""
    model = tiny_hq()
    small = mp.prune(model, mp.plan(model, "h50_m50", "random", protect=0, only=(0, 1)))
    images = tiny_batch()[0]
    with torch.no_grad():
        whole, cut = (embed(each, images)[:, TINY.out_channels :] for each in (model, small))
    assert not torch.allclose(whole, cut, rtol=1e-3)


def test_it_is_corrected_and_calibrated() -> None:
    model, data = tiny_hq(), {"a": TinySamples("a", 8)}
    statistics = mp.calibrate(model, tiny_hq(1), data, samples=4, progress=False, cache_dir=None)
    for method in ("medcore", "zero_fisher"):
        small = mp.prune(model, mp.plan(model, "h50_m50", method, statistics=statistics))
        before = (logits_of(small) - logits_of(model)).square().mean()
        mp.correct(small, model, data, samples=8, progress=False)
        assert (logits_of(small) - logits_of(model)).square().mean() < before


def test_exact_interventions_see_the_early_block() -> None:
    model, groups = tiny_hq(), mp.groups_of(tiny_hq())
    groups = [group.in_model(model) for group in groups]
    data = RiskData.of(TinySamples("a", 2), mp.data.Frame(48))
    # one before the early block's end, one after it
    chosen = [next(g for g in groups if g.block == block and g.family == "heads") for block in (0, 3)]
    found = exact_interventions(model, chosen, {"a": data}, units=[[1], [1]], progress=False)["a"]
    for group, costs in zip(chosen, found, strict=True):
        with unit_replaced(parts_of(group), 1, None):
            changed = risk(model, data)
        assert float(costs) == pytest.approx(changed - risk(model, data), rel=1e-3)


def test_recovery_compares_what_the_neck_gives() -> None:
    model, (images, boxes, masks) = tiny_hq(), tiny_batch()
    outputs = outputs_of(model, Batch(images, boxes, masks))
    assert outputs.features.shape[1] == TINY.out_channels
    small, data = mp.prune(model, mp.plan(model, "h50_m50", "random")), {"a": TinySamples("a", 12)}
    settings = mp.RecoverySettings(steps=2, batch_size=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mp.recover(small, model, mp.data.split(data), settings, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_torch_pruning_cuts_it() -> None:
    import torch_pruning as tp

    model = tiny_hq()
    with mp.traceable(model) as encoder:
        tp.pruner.BasePruner(
            encoder,
            torch.zeros(1, 3, 48, 48),
            importance=mp.build_criterion("magnitude").bind(model),
            pruning_ratio=0.5,
            head_pruning_ratio=0.5,
            num_heads=mp.heads_by_layer(model),
            ignored_layers=mp.all_but_units(model),
            prune_num_heads=True,
            prune_head_dims=False,
        ).step()
    assert mp.count(model).params < mp.count(tiny_hq()).params
    assert logits_of(model).isfinite().all()


def test_its_time_and_memory_are_estimated() -> None:
    own, sam = (mp.evaluation_estimate(each, 4) for each in (tiny_hq(), tiny_sam()))
    assert own.memory_bytes >= sam.memory_bytes
    assert own.seconds is not None
    assert own.seconds > 0


# checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return hq_state(mp.zoo.pocket("adapted"))


def written(content: object, folder: Path) -> Path:
    place = folder / "sam_hq.pth"
    torch.save(content, place)
    return place


def test_published_files_have_these_names(state: dict[str, Tensor]) -> None:
    built = build_sam_hq(TINY)
    own = {name.removeprefix("mask_decoder.") for name in set(built.state_dict()) - set(tiny_sam().state_dict())}
    assert own == set(BESIDE)


@pytest.mark.parametrize("around", [lambda state: state, lambda state: {"model": state}])
@pytest.mark.parametrize("load", [mp.load_sam, mp.load_checkpoint])
def test_a_checkpoint_is_known_by_its_tensors(
    around: object, load: object, state: dict[str, Tensor], tmp_path: Path
) -> None:
    model = load(written(around(state), tmp_path))  # type: ignore[operator]
    assert family_of(model).name == "sam_hq"
    held = model.state_dict()
    assert {name for name in held if not torch.equal(held[name], state[name])} == set()
    assert mp.load_sam("pocket", tmp_path / "sam_hq.pth").state_dict().keys() == held.keys()
    assert mp.load_checkpoint(tmp_path / "sam_hq.pth", image_size=64).image_encoder.img_size == 64  # type: ignore[union-attr]


def test_loading_leaves_the_random_numbers_alone(state: dict[str, Tensor], tmp_path: Path) -> None:
    place = written(state, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    mp.load_checkpoint(place)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["hf_mlp.layers.2.bias", "embedding_encoder.3.weight", "compress_vit_feat.0.weight"])
def test_a_decoder_that_is_not_whole_is_refused(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    lacking = {key: value for key, value in state.items() if key != f"mask_decoder.{name}"}
    for load in (mp.load_sam, mp.load_checkpoint):
        with pytest.raises(CheckpointError, match=rf"does not fit .*mask_decoder\.{name}"):
            load(written(lacking, tmp_path))


def test_its_forms_that_are_not_read_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    lite = {"image_encoder.patch_embed.seq.0.c.weight": torch.ones(4, 3, 1, 1)}
    light = lite | {name: value for name, value in state.items() if not name.startswith("image_encoder.")}
    for load in (mp.load_sam, mp.load_checkpoint):
        with pytest.raises(CheckpointError, match="is of SAM-HQ in a form that is not read, such as Light HQ-SAM"):
            load(written(light, tmp_path))


def test_other_kinds_are_not_taken_for_it(tmp_path: Path) -> None:
    model = tiny_hq()
    with pytest.raises(MedcorePruneError, match="mask_decoder"):
        mp.require_aligned(model, tiny_sam())
    with pytest.raises(CheckpointError, match="of the family sam_hq"):
        mp.save_transformers(model, tmp_path / "folder")


def test_a_file_of_absurd_sizes_is_refused() -> None:
    family, settings = family_of(tiny_hq()), dict(family_of(tiny_hq()).settings(tiny_hq()))  # type: ignore[attr-defined]
    for wrong in ({"depth": 1 << 20}, {"embed_dim": -1}, {"global_blocks": [9]}, {"global_blocks": []}, {"x": 1}):
        with pytest.raises(MedcorePruneError):
            family.build(settings | wrong)  # type: ignore[attr-defined]
