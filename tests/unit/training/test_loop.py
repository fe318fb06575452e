import copy
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch.utils._python_dispatch import TorchDispatchMode

from medcore_prune._support.errors import DataError, MedcorePruneError, UnreadableError
from medcore_prune._support.machines.ranks import Ranks
from medcore_prune.data.frame import Frame
from medcore_prune.training.batches.augmentation import AUGMENTATIONS, Augmentation
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.loop import TrainState, learning_rate_at, train
from medcore_prune.training.objective import Loss, Objective, batch_loss
from medcore_prune.training.pool import Pool, Scene
from medcore_prune.training.record import Scores
from medcore_prune.training.settings import TrainSettings

SETTINGS = TrainSettings(steps=6, learning_rate=1e-3, warmup=2, save_every=2)


@functools.cache
def small_pool() -> Pool:
    rng = np.random.default_rng(0)
    scenes = []
    for index in range(4):
        image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), bool)
        mask[10 + index : 40, 12:50] = True
        image[mask] += 120
        scenes.append((image, [mask, ~mask]))
    return Pool.of_scenes(scenes, 64)


def batches(step: int) -> Batch:
    return small_pool().batch(step, seed=0, count=2, frame=Frame(48), prompts=2, augment=Augmentation())


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again, other = batches(3), batches(3), batches(4)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.images, other.images)


def test_shapes_and_ranges_of_a_batch() -> None:
    batch = batches(0)
    assert batch.images.shape == (2, 3, 48, 48)
    assert batch.masks.shape == (4, 1, 48, 48)
    assert batch.boxes.shape == (4, 4)
    for values in (batch.images, batch.masks):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1


@pytest.mark.parametrize("augment", [None, *AUGMENTATIONS.values()])
def test_slices_of_a_batch_are_made_by_themselves_and_are_those_of_the_whole(augment: Augmentation | None) -> None:
    read: list[int] = []
    whole = small_pool()

    def scene(index: int, objects: Sequence[int]) -> Scene:
        read.append(index)
        return whole.scene(index).only(objects)

    pool = Pool([2] * len(whole), scene, kept_bytes=0)
    drawn = functools.partial(pool.batch, 3, seed=1, count=6, frame=Frame(48), prompts=2, augment=augment)
    expected = drawn()
    assert len(read) == 6
    slices = [drawn(part=(place, 3)) for place in range(3)]
    # each reads its own images alone
    assert read[6:] == read[:6]
    for name in ("images", "boxes", "masks"):
        assert torch.equal(torch.cat([getattr(each, name) for each in slices]), getattr(expected, name))


def test_boxes_enclose_their_masks_and_reach_outward_at_most_as_medsam_does() -> None:
    pool = small_pool()
    for step in range(10):
        batch = pool.batch(step, seed=1, count=4, frame=Frame(48), augment=Augmentation())
        for (x0, y0, x1, y1), mask in zip(batch.boxes.tolist(), batch.masks[:, 0] > 0.5, strict=True):
            rows, columns = np.nonzero(mask.any(1).numpy())[0], np.nonzero(mask.any(0).numpy())[0]
            slack = 20 / 1024 * 48
            assert columns[0] - slack <= x0 <= columns[0]
            assert columns[-1] <= x1 <= columns[-1] + slack
            assert rows[0] - slack <= y0 <= rows[0]
            assert rows[-1] <= y1 <= rows[-1] + slack


def test_flips_alone_move_whole_pixels() -> None:
    still = small_pool().in_order(0, 4, Frame(48))
    shown = small_pool().batch(0, seed=2, count=16, frame=Frame(48), augment=AUGMENTATIONS["flips"])

    def kin(image: torch.Tensor) -> list[torch.Tensor]:
        turned = [torch.rot90(image, k, (-2, -1)) for k in range(4)]
        return [*turned, *(each.flip(-1) for each in turned)]

    found = [
        next(place for one in still.images for place, other in enumerate(kin(one)) if torch.allclose(image, other))
        for image in shown.images
    ]
    # all ways that a square lies on itself come about
    assert len(set(found)) > 5


def test_without_augmentation_boxes_are_exact() -> None:
    batch = small_pool().in_order(0, 2, Frame(64))
    assert batch.boxes[0].tolist() == [12.0, 10.0, 49.0, 39.0]
    assert torch.equal(
        batch.masks[1, 0].bool(),
        torch.zeros(64, 64)
        .bool()
        .index_put_((torch.arange(11, 40)[:, None], torch.arange(12, 50)), torch.tensor(True)),
    )


def test_pool_without_masks_is_refused() -> None:
    with pytest.raises(DataError, match="no images to train on"):
        Pool.of_scenes([], 32)
    with pytest.raises(DataError, match="image 1 of the pool has no mask"):
        Pool.of_scenes(
            [(np.zeros((8, 8, 3), np.uint8), [np.ones((8, 8), bool)]), (np.zeros((8, 8, 3), np.uint8), [])], 8
        )


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate_at(step, TrainSettings(steps=10, learning_rate=1.0, warmup=2)) for step in range(11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[10] == pytest.approx(0.0)


def test_training_lowers_the_loss_and_leaves_the_prompt_encoder(tmp_path: Path) -> None:
    model = tiny_sam()
    prompts = copy.deepcopy(model.prompt_encoder.state_dict())
    same = batches(0)
    losses = train(
        model, lambda _: same, TrainSettings(steps=40, learning_rate=5e-3, warmup=2), tmp_path / "state.pt"
    ).losses
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert all(torch.equal(value, prompts[name]) for name, value in model.prompt_encoder.state_dict().items())
    assert not model.training


def killed_at(stop: int) -> Callable[[int], Batch]:
    """Batches until a step at which the user interrupts."""

    def make(step: int) -> Batch:
        if step == stop:
            raise KeyboardInterrupt
        return batches(step)

    return make


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = tiny_sam()
    expected = train(whole, batches, SETTINGS, tmp_path / "whole.pt").losses

    with pytest.raises(KeyboardInterrupt):
        train(tiny_sam(), killed_at(5), SETTINGS, tmp_path / "state.pt")
    resumed = tiny_sam()
    assert train(resumed, batches, SETTINGS, tmp_path / "state.pt").losses == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_slow_steps_are_saved_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medcore_prune.training.loop.SAVE_AFTER_S", 0.0)
    settings = replace(SETTINGS, save_every=100)
    expected = train(tiny_sam(), batches, settings, tmp_path / "whole.pt").losses

    with pytest.raises(KeyboardInterrupt):
        train(tiny_sam(), killed_at(3), settings, tmp_path / "state.pt")
    taken = []

    def noted(step: int) -> Batch:
        taken.append(step)
        return batches(step)

    assert train(tiny_sam(), noted, settings, tmp_path / "state.pt").losses == expected
    assert taken == [3, 4, 5]
    assert "training: going on after step 3 of 6" in capsys.readouterr().err


def test_validation_keeps_the_best_weights(tmp_path: Path) -> None:
    scores = iter([1.0, 3.0, 2.0])
    seen = []

    def validate(model: torch.nn.Module) -> Scores:
        seen.append(model.state_dict()["mask_decoder.iou_token.weight"].clone())
        return Scores({"score": next(scores)})

    model = tiny_sam()
    settings = TrainSettings(steps=6, learning_rate=1e-3, warmup=1, validate_every=2)
    train(model, batches, settings, tmp_path / "state.pt", validate=validate)
    assert torch.equal(model.state_dict()["mask_decoder.iou_token.weight"], seen[1])


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        batch = batches(step)
        return batch if step < 3 else Batch(batch.images * float("nan"), batch.boxes, batch.masks)

    with pytest.raises(MedcorePruneError, match=r"loss of step 3 is not finite"):
        train(tiny_sam(), broken, SETTINGS, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


def test_a_state_of_other_settings_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    train(tiny_sam(), batches, SETTINGS, tmp_path / "state.pt")
    with pytest.raises(MedcorePruneError, match=r"another training \(steps 6, not 9; warmup 2, not 1\)"):
        train(tiny_sam(), batches, replace(SETTINGS, steps=9, warmup=1), tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(MedcorePruneError, match="no training state"):
        train(tiny_sam(), batches, SETTINGS, tmp_path / "state.pt")


def test_a_state_of_another_start_is_refused(tmp_path: Path) -> None:
    train(tiny_sam(), batches, SETTINGS, tmp_path / "state.pt", identity="one")
    with pytest.raises(MedcorePruneError, match=r"belongs to another training \(other images or another start\)"):
        train(tiny_sam(), batches, SETTINGS, tmp_path / "state.pt", identity="other")


def test_a_pool_is_known_by_its_pixels() -> None:
    first = small_pool()
    other = Pool.of_scenes([(np.zeros((64, 64, 3), np.uint8), [np.ones((64, 64), bool)])], 64)
    assert first.hash == small_pool().hash != other.hash


@pytest.mark.parametrize("kept_bytes", [0, 3 * 4 * 64**2, 10**9])
def test_a_pool_reads_again_what_it_does_not_keep_and_is_the_same(kept_bytes: int) -> None:
    samples = TinySamples("a", 5)
    scenes = [(sample.image, [sample.mask]) for sample in TinySamples("a", 5)]
    whole, pool = Pool.of_scenes(scenes, 64), Pool.of_sets([samples], 64, kept_bytes)
    assert samples.read == []
    for step in range(4):
        one, other = (
            each.batch(step, seed=1, count=3, frame=Frame(48), augment=Augmentation()) for each in (whole, pool)
        )
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "boxes", "masks"))
    # as it was when everything lay in two tensors
    images, masks = (torch.stack([getattr(whole.scene(n), what) for n in range(5)]) for what in ("image", "masks"))
    digest = hashlib.sha256(images.numpy().tobytes() + masks.numpy().tobytes())
    for number in range(5):
        digest.update(torch.tensor([number]).numpy().tobytes())
    assert pool.hash == whole.hash == digest.hexdigest()
    before = len(samples.read)
    pool.in_order(0, 5, Frame(48))
    assert len(samples.read) - before == {0: 5, 3 * 4 * 64**2: 2, 10**9: 0}[kept_bytes]


def test_a_step_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:
                waits.append("number")
            return func(*args, **(kwargs or {}))

    made, model, own = batches(0), tiny_sam(), torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (waits.append("list"), own(self))[1])
    counts = []
    for at_a_time in (1, 2):
        waits.clear()
        with Waits():
            settings = replace(SETTINGS, steps=1, warmup=1)
            train(copy.deepcopy(model), lambda _: made, settings, at_a_time=at_a_time, progress=False)
        assert waits.count("list") == 1
        counts.append(waits.count("number"))
    # what is left are AdamW's counts of its steps, on the processor, and as many whatever the parts
    assert counts[0] == counts[1]


@pytest.mark.parametrize("precision", [None, "fp32", "bf16"])
def test_an_autocast_block_around_a_training_changes_nothing(
    precision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medcore_prune.models.precision.has_bfloat16", lambda _: True)
    settings = replace(SETTINGS, precision=precision)
    plain, within = tiny_sam(), tiny_sam()
    wanted = train(plain, batches, settings, tmp_path / "plain.pt").losses
    images = batches(0).images
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        within.image_encoder(images)
        with torch.enable_grad():
            got = train(within, batches, settings, tmp_path / "within.pt").losses
        embedded = within.image_encoder(images)
    assert got == wanted
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in within.state_dict().items())
    # the weights that the block has cast before are forgotten
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(embedded, plain.image_encoder(images))


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_batch_in_parts_trains_alike(at_a_time: int) -> None:
    def train_with(parts: int | None) -> tuple[list[float], torch.Tensor]:
        model = tiny_sam()
        record = train(
            model,
            lambda step: small_pool().batch(step, seed=0, count=4, frame=Frame(48), prompts=2, augment=Augmentation()),
            replace(SETTINGS, steps=2, precision="fp32"),
            at_a_time=parts,
            progress=False,
        )
        return record.losses, torch.cat([p.detach().flatten() for p in model.parameters()])

    (losses, weights), (whole, expected) = train_with(at_a_time), train_with(None)
    assert losses == pytest.approx(whole, rel=1e-5)
    assert (weights - expected).norm() < 1e-3 * (
        expected - torch.cat([*map(torch.flatten, tiny_sam().parameters())])
    ).norm()


def test_slices_train_as_the_whole_batch_but_by_rounding(tmp_path: Path) -> None:
    def trained(slices: int) -> tuple[list[float], torch.Tensor]:
        model = tiny_sam()

        def make(number: int) -> Batch:
            step, place = divmod(number, slices)
            return small_pool().batch(step, seed=0, count=4, frame=Frame(48), prompts=2, part=(place, slices))

        settings = replace(SETTINGS, steps=2, precision="fp32", accumulate=slices)
        losses = train(model, make, settings, tmp_path / f"{slices}.pt", progress=False).losses
        return losses, torch.cat([p.detach().flatten() for p in model.parameters()])

    (losses, weights), (whole, expected), (halves, _) = trained(4), trained(1), trained(2)
    assert losses == pytest.approx(whole, rel=1e-5)
    assert halves == pytest.approx(whole, rel=1e-5)
    start = torch.cat([p.detach().flatten() for p in tiny_sam().parameters()])
    assert (weights - expected).norm() < 1e-3 * (expected - start).norm()
    # a state of slices is another's, and one without is as it ever was
    assert "accumulate" not in torch.load(tmp_path / "1.pt", weights_only=True)["belongs_to"]["settings"]
    with pytest.raises(MedcorePruneError, match=r"another training \(accumulate 4, not 2\)"):
        train(tiny_sam(), batches, replace(SETTINGS, steps=2, precision="fp32", accumulate=2), tmp_path / "4.pt")


def test_an_objective_is_its_model_and_nothing_else() -> None:
    model, teacher = tiny_sam(), tiny_sam(1)
    objective = Objective(model, lambda trained, batch: Loss(batch_loss(trained, batch) + batch_loss(teacher, batch)))
    assert [id(each) for each in objective.parameters()] == [id(each) for each in model.parameters()]
    loss = objective(batches(0))
    loss.total.backward()
    assert model.image_encoder.pos_embed.grad is not None
    # what a loss does not read stays without a gradient
    assert all(each.grad is None for each in model.mask_decoder.iou_prediction_head.parameters())


def test_processes_that_do_not_divide_the_slices_are_refused() -> None:
    with pytest.raises(UnreadableError, match="accumulate is 3: expected a multiple of the 2 processes"):
        train(tiny_sam(), batches, replace(SETTINGS, accumulate=3), ranks=Ranks(1, 2))


def test_a_state_that_contains_itself_is_refused(tmp_path: Path) -> None:
    own: dict[str, object] = {"belongs_to": {"settings": {}, "identity": ""}}
    own["optimizer"] = {"state": own}
    torch.save(own, tmp_path / "state.pt")
    model = tiny_sam()
    with pytest.raises(MedcorePruneError, match=r"state\.pt is no training state \(ValueError\): remove it"):
        TrainState(model, torch.optim.AdamW(model.parameters()), {}, "", tmp_path / "state.pt")
