"""Samples that show one image are trained on together: one pass of the encoder, and every object counts the same."""

import copy
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed, OneByOne, TinySamples, several_boxes
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError, MedcorePruneWarning
from medcore_prune.data.frame import Frame
from medcore_prune.data.splits.split import Split
from medcore_prune.models.families import encoder_of
from medcore_prune.models.losses import plain_loss
from medcore_prune.training.adapt import adapt_pool, validation_loss
from medcore_prune.training.batches.augmentation import AUGMENTATIONS, Augmentation
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.lost import warn_of_lost
from medcore_prune.training.objective import TERMS, RecoveryLoss, batch_loss, outputs_of
from medcore_prune.training.pool import OBJECTS_AN_IMAGE, Pool, Scene, most_objects
from medcore_prune.training.recover import recovery_key, seconds_per_step
from medcore_prune.training.settings import RecoveryWeights

FRAME = Frame(48)
SETTINGS = mp.RecoverySettings(steps=2, batch_size=4, learning_rate=1e-3, validate_every=2)


@functools.cache
def uneven(counts: tuple[int, ...] = (1, 3, 12)) -> Pool:
    """A pool of images with so many objects each, apart from each other."""
    rng = np.random.default_rng(0)
    scenes = []
    for count in counts:
        masks = np.zeros((count, 64, 64), bool)
        for place in range(count):
            row, column = divmod(place, 4)
            masks[place, 6 + 18 * row : 18 + 18 * row, 3 + 15 * column : 13 + 15 * column] = True
        scenes.append((rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), masks))
    return Pool.of_scenes(scenes, 64)


def split(train: dict[str, Any], validation: dict[str, Any]) -> Split:
    return Split(train, validation, {}, seed=0, fractions=(0.5, 0.5, 0.0))


def counted(model: nn.Module) -> Counter[str]:
    """Count the images that a model encodes from now on, and the boxes that it reads."""
    seen: Counter[str] = Counter()
    encoder_of(model).register_forward_pre_hook(lambda _, args: seen.update(images=len(args[0])))
    model.get_submodule("prompt_encoder").register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(boxes=len(kwargs["boxes"])), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("augment", [None, *AUGMENTATIONS.values()])
def test_images_of_one_object_are_drawn_as_by_the_plain_rule(augment: Augmentation | None, padded: bool) -> None:
    pool, frame = Pool.of_sets([TinySamples("a", 9)], 64), Frame(48, padded=padded)
    for step in range(3):
        draw = functools.partial(pool.batch, step, seed=7, count=6, frame=frame, augment=augment)
        found, plain = draw(), draw(prompts=1)
        for name in ("images", "boxes", "masks", "counts"):
            one, other = (getattr(each, name) for each in (found, plain))
            assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
        if augment is None:
            rng = torch.Generator().manual_seed(7 * 1_000_003 + step)
            chosen = torch.randint(9, (6,), generator=rng)
            assert torch.equal(found.images, pool.in_order(0, 9, frame).images[chosen])


def test_every_object_counts_the_same_however_many_its_image_has() -> None:
    pool, weights = uneven(), Counter[tuple[float, ...]]()
    for step in range(400):
        batch = pool.batch(step, seed=0, count=8, frame=FRAME)
        assert max(batch.counts) <= OBJECTS_AN_IMAGE
        shares = [1 / batch.counts[place] for place in batch.owner]
        for box, image, share in zip(batch.boxes.tolist(), batch.owner, shares, strict=True):
            weights[(round(float(batch.images[image].sum()), 2), *box)] += share
    # an object of 16 is a sixteenth of all, of 3200 images here
    assert len(weights) == 16
    assert all(weight == pytest.approx(200, rel=0.25) for weight in weights.values())
    drawn = pool.batch(0, seed=0, count=8, frame=FRAME)
    for count, boxes in zip(drawn.counts, drawn.boxes.split(drawn.counts), strict=True):
        assert len({tuple(box) for box in boxes.tolist()}) == count


@pytest.mark.parametrize("augment", [None, *AUGMENTATIONS.values()])
def test_slices_and_parts_have_the_objects_of_their_images(augment: Augmentation | None) -> None:
    draw = functools.partial(uneven((2, 3, 4, 5)).batch, 3, seed=1, count=6, frame=FRAME, augment=augment)
    whole = draw()
    assert len(set(whole.counts)) > 1
    for cut in ([draw(part=(place, 3)) for place in range(3)], list(whole.parts(4)), list(whole.parts(1))):
        assert sum((each.counts for each in cut), ()) == whole.counts
        for name in ("images", "boxes", "masks"):
            assert torch.equal(torch.cat([getattr(each, name) for each in cut]), getattr(whole, name))


def test_a_loss_is_the_mean_over_images_of_the_mean_over_their_objects() -> None:
    batch, model, teacher = uneven((2, 3, 4, 5)).batch(0, seed=0, count=5, frame=FRAME), tiny_sam(), tiny_sam(1)
    assert len(set(batch.counts)) > 1
    weights = RecoveryWeights(1, 0.5, 0.25, 2, 3)
    objective = RecoveryLoss(teacher, weights, 5.0, "fp32")
    ends = np.cumsum((0, *batch.counts))
    plain, terms = list[float](), {name: list[float]() for name in TERMS}
    with torch.no_grad():
        for place in range(5):
            own = [
                Batch(batch.images[place : place + 1], batch.boxes[row : row + 1], batch.masks[row : row + 1])
                for row in range(ends[place], ends[place + 1])
            ]
            plain.append(float(np.mean([float(batch_loss(model, each)) for each in own])))
            for name, values in terms.items():
                values.append(float(np.mean([float(TERMS[name].of(objective.views(model, each))) for each in own])))
        assert float(batch_loss(model, batch)) == pytest.approx(np.mean(plain), rel=1e-5)
        loss = objective(model, batch)
    for name, values in terms.items():
        assert float(loss.terms[name]) == pytest.approx(np.mean(values), rel=1e-4)
    assert float(loss.total) == pytest.approx(
        sum(getattr(weights, name) * np.mean(values) for name, values in terms.items()), rel=1e-4
    )


def test_the_gradient_is_that_of_each_object_by_itself() -> None:
    batch, shared, alone = uneven((2, 3, 4, 5)).batch(0, seed=0, count=4, frame=FRAME), tiny_sam(), tiny_sam()
    batch_loss(shared, batch).backward()
    repeated = Batch(batch.images[list(batch.owner)], batch.boxes, batch.masks)
    losses = plain_loss(outputs_of(alone, repeated).logits, batch.masks)
    shares = torch.tensor([1 / (4 * batch.counts[place]) for place in batch.owner])
    (losses * shares).sum().backward()
    for one, other in zip(shared.parameters(), alone.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5 * float(other.grad.abs().max()))


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_recovery_and_an_adaptation_encode_five_objects_once(interleaved: bool, tmp_path: Path) -> None:
    samples = several_boxes(8, 5, interleaved)
    roles = [[n for n, name in enumerate(samples.ids) if (name < "6") == train] for train in (True, False)]
    data = split(*({"a": mp.data.Subset(samples, tuple(role), "a")} for role in roles))
    teacher = tiny_sam()
    small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "random", seed=0))
    settings = replace(SETTINGS, validate_every=0)
    counts = [counted(small), counted(teacher)]
    mp.recover(small, teacher, data, settings, progress=False)
    assert counts == [{"images": 8, "boxes": 40}] * 2
    adapted, how = tiny_sam(), mp.AdaptSettings(steps=2, batch_size=4, augmentation="flips", validate_every=2)
    seen = counted(adapted)
    record = mp.adapt(adapted, data.train, data.validation, how, tmp_path / "state.pt")
    # two looks at two images
    assert seen == {"images": 8 + 2 * 2, "boxes": 40 + 2 * 10}
    assert len(record.validations) == 2


def test_the_validation_loss_is_the_mean_over_all_objects() -> None:
    pool, model = uneven((1, 3, 12, 2, 2)), tiny_sam()
    every = [
        pool.in_order(image, image + 1, FRAME, slice(at, at + 1))
        for image in range(5)
        for at in range(pool.masks[image])
    ]
    with torch.no_grad():
        alone = np.array([float(batch_loss(model, each)) for each in every])
    for at_a_time in (None, 1, 5, 7):
        seen = counted(copied := copy.deepcopy(model))
        assert validation_loss(copied, pool, at_a_time, all_masks=True) == pytest.approx(alone.mean(), rel=1e-5)
        assert seen == {"images": 5, "boxes": 20}
    firsts = alone[np.cumsum((0, *pool.masks[:-1]))]
    assert validation_loss(model, pool) == pytest.approx(firsts.mean(), rel=1e-5)


def test_an_object_that_leaves_the_image_is_left_out_and_the_others_stay() -> None:
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 24:40, 24:40] = masks[1, :5, :5] = True
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pool, augment = Pool.of_scenes([(image, masks)], 64), Augmentation(zoom=2.0, shift_fraction=0.3)
    counts = Counter[int]()
    for step in range(20):
        batch = pool.batch(step, seed=0, count=4, frame=FRAME, augment=augment)
        counts.update(batch.counts)
        assert all(int((mask > 0.5).sum()) >= 4 for mask in batch.masks)
        for (x0, y0, x1, y1), mask in zip(batch.boxes.tolist(), batch.masks[:, 0] > 0.5, strict=True):
            rows, columns = np.nonzero(mask.any(1).numpy())[0], np.nonzero(mask.any(0).numpy())[0]
            assert (x0 <= columns[0], y0 <= rows[0], x1 >= columns[-1], y1 >= rows[-1]) == (True,) * 4
    assert set(counts) == {1, 2}


def test_objects_that_are_too_small_whatever_is_done_stay_when_there_is_nothing_else() -> None:
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 10, 10] = masks[1, 50, 50] = True
    pool = Pool.of_scenes([(np.zeros((64, 64, 3), np.uint8), masks)], 64)
    assert pool.batch(0, seed=0, count=2, frame=FRAME, augment=Augmentation()).counts == (2, 2)


def test_samples_of_one_image_that_is_replaced_between_them_are_refused() -> None:
    samples = list(several_boxes(1, 2))
    samples[1] = replace(samples[1], image=samples[1].image + 1)

    class OneImage(Fixed):
        def image_keys(self) -> Sequence[str]:
            return ["same"] * len(self)

    pool = Pool.of_sets([OneImage(samples)], 64)
    assert len(pool) == 1
    with pytest.raises(DataError, match="its image is another one than a moment ago"):
        pool.batch(0, seed=0, count=1, frame=FRAME)


def test_of_an_image_that_is_not_kept_what_is_drawn_is_read_alone() -> None:
    asked, whole = list[list[int]](), uneven((12,))

    def read(index: int, objects: Sequence[int]) -> Scene:
        asked.append(list(objects))
        return whole.scene(index).only(objects)

    pool = Pool([12], read, kept_bytes=0)
    assert pool.hash == whole.hash
    drawn = pool.batch(0, seed=0, count=2, frame=FRAME)
    assert [len(each) for each in asked] == [12, OBJECTS_AN_IMAGE, OBJECTS_AN_IMAGE]
    assert torch.equal(drawn.masks, whole.batch(0, seed=0, count=2, frame=FRAME).masks)


def test_lost_objects_are_named_by_their_samples() -> None:
    samples = list(several_boxes(2, 2))
    speck = np.zeros((400, 560), bool)
    speck[200, 300] = True
    large = np.random.default_rng(0).integers(0, 255, (400, 560, 3), dtype=np.uint8)
    pool = Pool.of_sets([mp.data.arrays("a", [samples[0].image, large, large], [samples[0].mask, speck, ~speck])], 64)
    assert pool.names == [["a/000000"], ["a/000001", "a/000002"]]
    with pytest.warns(MedcorePruneWarning, match=r"1 of 3 training images .* \(a/000001\)"):
        warn_of_lost(pool, "training")


def test_a_pool_is_known_by_whose_its_masks_are() -> None:
    scenes = [uneven((3, 3)).scene(n) for n in range(2)]
    masks = torch.cat([each.masks for each in scenes])[:3]

    def pool(*counts: int) -> Pool:
        parts = masks.split(counts)
        return Pool(counts, lambda n, objects: Scene(scenes[n].image, parts[n], (64, 64)).only(objects))

    assert pool(1, 2).hash != pool(2, 1).hash


def test_trainings_on_shared_images_are_told_from_those_on_each_sample_by_itself(tmp_path: Path) -> None:
    teacher, samples = tiny_sam(), several_boxes(4, 3)
    small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "random", seed=0))
    alone = OneByOne(list(samples), samples.hashes())
    alone.name = samples.name
    shared, apart = (recovery_key(small, teacher, split({"a": each}, {}), SETTINGS) for each in (samples, alone))
    assert shared != apart
    # without a word of its images a set is what it was
    plain = Fixed(list(samples), samples.hashes())
    plain.name = samples.name
    assert recovery_key(small, teacher, split({"a": plain}, {}), SETTINGS) == apart
    how = mp.AdaptSettings(steps=1, batch_size=2)
    state = tmp_path / "state.pt"
    adapt_pool(tiny_sam(), Pool.of_sets([alone], 64), replace(how, prompts=1), state)
    # of one object an image both are the same training, which is done
    assert len(adapt_pool(tiny_sam(), Pool.of_sets([alone], 64), how, state).losses) == 1
    for settings in (how, replace(how, prompts=1)):
        with pytest.raises(MedcorePruneError, match="other images or another start"):
            adapt_pool(tiny_sam(), Pool.of_sets([samples], 64), settings, state)


def test_how_many_objects_an_image_has_at_most() -> None:
    assert most_objects([TinySamples("a", 3)]) == 1
    assert most_objects([TinySamples("a", 3), several_boxes(2, 5)]) == 5
    assert most_objects([several_boxes(1, 12)]) == OBJECTS_AN_IMAGE


def test_a_step_is_timed_on_whole_images() -> None:
    teacher = tiny_sam()
    small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "random", seed=0))
    seen = counted(teacher)
    assert seconds_per_step(small, teacher, split({"a": several_boxes(6, 5, interleaved=True)}, {}), SETTINGS) > 0
    assert seen == {"images": 8, "boxes": 40}


@pytest.mark.parametrize("counts", [(2, 1), (0, 3), (3,)])
def test_a_batch_whose_counts_are_not_those_of_its_boxes_is_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="boxes on 2 images: expected at least one on each"):
        Batch(torch.zeros(2, 3, 8, 8), torch.zeros(4, 4), torch.zeros(4, 1, 8, 8), counts)
