import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TINY, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError
from medcore_prune.data.samples import SampleSet
from medcore_prune.data.splits.split import FRACTIONS, Split, split
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.training import recover as recovering
from medcore_prune.training.batches.augmentation import AUGMENTATIONS
from medcore_prune.training.rate import POCKET_RATE, USUAL_RATE, rated
from medcore_prune.training.record import Scores
from medcore_prune.training.recover import RecoveryHistory, recover, recovery_key, seconds_per_step
from medcore_prune.training.settings import AUGMENTATION_NAMES, RecoverySettings, RecoveryWeights, deciding

SETTINGS = RecoverySettings(steps=6, batch_size=2, learning_rate=2e-3, validate_every=2)


def images(name: str = "a", count: int = 8) -> Split:
    return split({name: TinySamples(name, count)}, fractions=(0.5, 0.25, 0.25))


def without(data: Split, **roles: Mapping[str, SampleSet]) -> Split:
    return replace(data, **{role: dict(sets) for role, sets in roles.items()})


def pair() -> tuple[nn.Module, nn.Module]:
    teacher = tiny_sam()
    return mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1)), teacher


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_recovery_lowers_the_loss_and_comes_nearer_to_the_teacher() -> None:
    model, teacher = pair()
    settings = replace(SETTINGS, steps=24, learning_rate=4e-3, validate_every=0)
    frame = recover(model, teacher, images(), settings, progress=False).frame
    assert frame["loss"][-6:].mean() < 0.9 * frame["loss"][:6].mean()
    assert frame["feature"][-6:].mean() < 0.3 * frame["feature"][:6].mean()
    assert not model.training


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
def test_a_block_without_gradients_changes_nothing(block: Callable[[], Any]) -> None:
    (model, teacher), (within, same_teacher) = pair(), pair()
    wanted = recover(model, teacher, images(), SETTINGS, progress=False)
    with block():
        got = recover(within, same_teacher, images(), SETTINGS, progress=False)
    pd.testing.assert_frame_equal(got.frame, wanted.frame)
    assert same(weights(within), weights(model))


def test_encoder_and_decoder_are_trained_and_prompt_encoder_and_teacher_are_not() -> None:
    model, teacher = pair()
    teacher.train()
    before, taught = weights(model), weights(teacher)
    recover(model, teacher, without(images(), validation={}), SETTINGS, progress=False)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"image_encoder", "mask_decoder"}
    assert same(weights(teacher), taught)
    assert teacher.training
    assert all(parameter.grad is None for module in (model, teacher) for parameter in module.parameters())


def test_what_was_frozen_stays_frozen() -> None:
    model, teacher = pair()
    model.image_encoder.blocks[1].requires_grad_(False)
    before = weights(model.image_encoder.blocks[1])
    recover(model, teacher, without(images(), validation={}), SETTINGS, progress=False)
    assert same(weights(model.image_encoder.blocks[1]), before)
    assert not any(parameter.requires_grad for parameter in model.image_encoder.blocks[1].parameters())


def test_the_history_has_a_row_a_step_and_the_looks_at_validation_images() -> None:
    model, teacher = pair()
    history = recover(model, teacher, images(), SETTINGS, progress=False)
    assert history.frame["step"].tolist() == [1, 2, 3, 4, 5, 6]
    expected = ["step", "learning_rate", "loss", "dice", "boundary_bce", "feature", "boundary_logit", "high_frequency"]
    assert list(history.frame) == expected
    assert history.frame["learning_rate"].max() == SETTINGS.learning_rate
    assert history.validations["step"].tolist() == [0, 2, 4, 6]
    assert history.start["bf1"] == history.validations["bf1"][0]
    assert history.best["bf1"] == history.validations["bf1"].max()
    assert history.seconds > 0


def test_the_loss_is_the_weighted_sum_of_the_recorded_terms() -> None:
    model, teacher = pair()
    own = RecoveryWeights(1, 0.5, 0, 0.25, 0)
    history = recover(model, teacher, images(), replace(SETTINGS, weights=own), progress=False)
    frame = history.frame
    assert np.allclose(frame["loss"], frame["dice"] + 0.5 * frame["boundary_bce"] + 0.25 * frame["boundary_logit"])
    assert "feature" not in frame


def scripted(
    monkeypatch: pytest.MonkeyPatch, scores: list[float], spread: float = 0.0
) -> list[dict[str, torch.Tensor]]:
    """Let the validations say what is written, of eight images `spread` apart; returns the weights they saw."""
    seen: list[dict[str, torch.Tensor]] = []

    def judge(_self: object, model: nn.Module) -> Scores:
        seen.append(weights(model))
        mean = scores[len(seen) - 1]
        of_images = mean + spread * torch.randn(
            8, generator=torch.Generator().manual_seed(len(seen)), dtype=torch.double
        )
        return Scores({"bf1": mean, "dice": 0.5}, {"0": of_images}, {"0": list("abcdefgh")})

    monkeypatch.setattr(recovering.Judge, "__call__", judge)
    return seen


def test_the_weights_with_the_best_boundary_f1_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [0.1, 0.5, 0.3, 0.4])
    model, teacher = pair()
    history = recover(model, teacher, images(), SETTINGS, progress=False)
    assert history.best_step == 2
    assert same(weights(model), seen[1])
    assert not same(weights(model), seen[3])


def test_an_average_is_of_the_last_weights_and_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # looks after steps 2, 4 and 6, then shares 0, 1/4, 1/2 and 3/4 of what step 6 had, which is share 1
    seen = scripted(monkeypatch, [0.1, 0.7, 0.2, 0.4, 0.5, 0.6, 0.55])
    model, teacher = pair()
    start = weights(model)
    history = recover(model, teacher, images(), replace(SETTINGS, average=True), progress=False)
    half = {name: (start[name] + seen[2][name]) / 2 for name in start}
    assert all(torch.allclose(value, half[name], atol=1e-6) for name, value in model.state_dict().items())
    assert same(seen[3], start)
    assert len(seen) == 7
    assert {look["share"]: look["bf1"] for look in history.averages}[1.0] == 0.2
    assert (history.best_step, history.share, history.gained) == (None, 0.5, True)
    assert history.validations[["step", "bf1"]].to_numpy().tolist() == [[0, 0.4], [2, 0.1], [4, 0.7], [6, 0.2]]
    assert (history.start["bf1"], history.best["bf1"]) == (0.4, 0.6)
    assert history.outcome == "the average of 50% of the last weights with the input model is returned"
    again = RecoveryHistory.from_dict(json.loads(json.dumps(history.to_dict())))
    assert (again.averages, again.outcome, again.best) == (history.averages, history.outcome, history.best)


def test_an_average_in_which_nothing_gains_is_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.9, 0.9, 0.3, 0.4, 0.3, 0.3, 0.3])
    model, teacher = pair()
    before = weights(model)
    history = recover(model, teacher, images(), replace(SETTINGS, average=True), progress=False)
    assert same(weights(model), before)
    assert (history.share, history.gained) == (0.0, False)
    assert history.outcome == "nothing gained: the input model is returned"


def test_an_average_where_no_step_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.4, 0.5, 0.6, 0.55, 0.7])
    model, teacher = pair()
    history = recover(model, teacher, images(), replace(SETTINGS, average=True, validate_every=0), progress=False)
    assert (history.best_step, history.share, history.gained) == (None, 1.0, True)
    assert history.validations.empty
    assert (history.start["bf1"], history.best["bf1"]) == (0.4, 0.7)


def test_an_average_needs_validation_images_and_has_a_key_of_its_own() -> None:
    model, teacher = pair()
    averaged = replace(SETTINGS, average=True)
    assert recovery_key(model, teacher, images(), averaged) != recovery_key(model, teacher, images(), SETTINGS)
    with pytest.raises(DataError, match="chosen on validation images, and there are none"):
        recover(model, teacher, without(images(), validation={}), averaged, progress=False)


def test_a_recovery_that_only_harms_leaves_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.4, 0.3, 0.2])
    model, teacher = pair()
    before = weights(model)
    history = recover(model, teacher, images(), SETTINGS, progress=False)
    assert (history.best_step, history.gained) == (0, False)
    assert history.outcome == "nothing gained: the input model is returned"
    assert same(weights(model), before)


def test_it_stops_early_after_a_real_decline(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [0.1, 0.5, 0.4, 0.3, 0.45, 0.9])
    model, teacher = pair()
    history = recover(model, teacher, images(), replace(SETTINGS, steps=10, patience=2), progress=False)
    assert history.stopped_early
    assert len(history.frame) == 6
    assert history.best_step == 2
    assert (history.gained, history.outcome) == (True, "the weights after step 2 are returned")
    assert same(weights(model), seen[1])


@pytest.mark.parametrize(
    ("scores", "spread", "warmup"),
    [
        ([0.1, 0.5, 0.48, 0.47, 0.49, 0.46], 0.2, 0.1),  # lower, but within what eight such images differ by
        ([0.1, 0.5, 0.3, 0.4, 0.45, 0.47], 0.0, 0.1),  # the dip of a high rate, climbed out of
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.05], 0.0, 0.8),  # a decline, but of the warm-up
    ],
)
def test_noise_a_dip_and_the_warm_up_end_nothing(
    scores: list[float], spread: float, warmup: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, scores, spread)
    settings = replace(SETTINGS, steps=10, patience=2, warmup_fraction=warmup)
    history = recover(*pair(), images(), settings, progress=False)
    assert not history.stopped_early
    assert len(history.frame) == 10


def test_the_noise_of_a_look_is_that_of_the_difference_from_the_best_before() -> None:
    model, teacher = pair()
    looks = recover(model, teacher, images(), SETTINGS, progress=False).validations
    assert list(looks) == ["step", "bf1", "dice", "noise"]
    # nothing to compare the first with
    assert looks["noise"][0] == 1.0
    assert ((looks["noise"][1:] >= 0) & (looks["noise"][1:] < 0.5)).all()


def test_without_validation_images_the_last_weights_are_kept() -> None:
    model, teacher = pair()
    history = recover(model, teacher, without(images(), validation={}), SETTINGS, progress=False)
    assert history.best_step is None is history.gained
    assert history.outcome == "the last weights are returned"
    assert history.best == {} == history.start
    # what the pools draw does not depend on validation, so the last weights of the other are the same
    other, _ = pair()
    recover(other, teacher, images(), replace(SETTINGS, validate_every=0), progress=False)
    assert same(weights(model), weights(other))


def test_test_images_change_nothing() -> None:
    first, teacher = pair()
    second, _ = pair()
    recover(first, teacher, images(), SETTINGS, progress=False)
    recover(second, teacher, without(images(), test={"z": TinySamples("z", 3)}), SETTINGS, progress=False)
    assert same(weights(first), weights(second))


def kill_at(monkeypatch: pytest.MonkeyPatch, fatal: int) -> list[int]:
    """Interrupt the first attempt at a step; returns the steps whose batches were drawn."""
    draw, calls = recovering.Pool.batch, list[int]()

    def killed(self: recovering.Pool, step: int, **options: object) -> object:
        calls.append(step)
        if step == fatal and calls.count(fatal) == 1:
            raise KeyboardInterrupt
        return draw(self, step, **options)

    monkeypatch.setattr(recovering.Pool, "batch", killed)
    return calls


def test_an_interrupted_recovery_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, teacher = pair()
    expected = recover(whole, teacher, images(), SETTINGS, progress=False)
    calls, state = kill_at(monkeypatch, 5), tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        recover(pair()[0], teacher, images(), SETTINGS, state_path=state, progress=False)
    resumed = pair()[0]
    history = recover(resumed, teacher, images(), SETTINGS, state_path=state, progress=False)
    # it went on from the state of step 4 rather than from the start
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5]
    assert same(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(history.frame, expected.frame, check_exact=True)
    pd.testing.assert_frame_equal(history.validations, expected.validations, check_exact=True)
    assert (history.best_step, history.stopped_early) == (expected.best_step, expected.stopped_early)


def test_the_early_stop_counts_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, [0.1, 0.5, 0.3, 0.2, 0.9], spread=0.01)
    calls, state = kill_at(monkeypatch, 5), tmp_path / "state.pt"
    settings = replace(SETTINGS, steps=10, patience=2)
    _, teacher = pair()
    with pytest.raises(KeyboardInterrupt):
        recover(pair()[0], teacher, images(), settings, state_path=state, progress=False)
    for _ in range(2):
        # the second time there is nothing left to do
        model = pair()[0]
        history = recover(model, teacher, images(), settings, state_path=state, progress=False)
        assert (history.stopped_early, history.best_step, len(history.frame)) == (True, 2, 6)
        assert same(weights(model), seen[1])
    # the batch of step 6 was made ahead, for nothing
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5, 6]


def test_a_state_of_another_recovery_is_refused(tmp_path: Path) -> None:
    model, teacher = pair()
    state = tmp_path / "state.pt"
    recover(model, teacher, images(), SETTINGS, state_path=state, progress=False)
    message = r"belongs to another training \(other images or another start\)"
    with pytest.raises(MedcorePruneError, match=message):
        recover(pair()[0], teacher, images("b"), SETTINGS, state_path=state, progress=False)
    with pytest.raises(MedcorePruneError, match=message):
        recover(pair()[0], tiny_sam(1), images(), SETTINGS, state_path=state, progress=False)


def test_a_loss_that_is_not_finite_names_the_step_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = recovering.Pool.batch

    def broken(self: recovering.Pool, step: int, **options: object) -> object:
        batch = draw(self, step, **options)
        return batch if step < 3 else replace(batch, images=batch.images * float("nan"))

    monkeypatch.setattr(recovering.Pool, "batch", broken)
    model, teacher = pair()
    with pytest.raises(MedcorePruneError, match=r"the loss of step 3 is not finite.*state.pt has the last good state"):
        recover(model, teacher, images(), SETTINGS, state_path=tmp_path / "state.pt", progress=False)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    with pytest.raises(MedcorePruneError, match="no state was saved"):
        recover(pair()[0], teacher, images(), SETTINGS, progress=False)


def test_a_gradient_that_is_not_finite_spoils_no_weight() -> None:
    model, teacher = pair()
    # the loss is finite, its gradient is not
    model.mask_decoder.mask_tokens.weight.register_hook(lambda gradient: gradient / 0)
    before = weights(model)
    with pytest.raises(MedcorePruneError, match="the gradient of step 0 is not finite"):
        recover(model, teacher, without(images(), validation={}), SETTINGS, progress=False)
    assert same(weights(model), before)


def half(model: nn.Module, teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model.half(), teacher


def taught_by_half(model: nn.Module, teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model, teacher.bfloat16()


def by_itself(model: nn.Module, _teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model, model


def by_a_larger(model: nn.Module, _teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model, build_sam(replace(TINY, image_size=64))


def on_meta(model: nn.Module, teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model, copy.deepcopy(teacher).to("meta")


def frozen(model: nn.Module, teacher: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model.requires_grad_(False), teacher


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half, r"the model has weights of torch.float16, expected torch.float32 alone: call .float\(\)"),
        (taught_by_half, "the teacher has weights of torch.bfloat16"),
        (by_itself, "are one object"),
        (by_a_larger, "differ in size"),
        (on_meta, "the model is on cpu and its teacher on meta"),
        (frozen, "every parameter of the model is frozen"),
    ],
)
def test_models_that_cannot_be_recovered_are_refused(
    spoil: Callable[[nn.Module, nn.Module], tuple[nn.Module, nn.Module]], message: str
) -> None:
    with pytest.raises(MedcorePruneError, match=message):
        recover(*spoil(*pair()), images(), SETTINGS, progress=False)


def test_an_empty_training_split_is_refused() -> None:
    for train in ({}, {"a": TinySamples("a", 0)}):
        with pytest.raises(DataError, match=r"there is no training data set|the training split is empty"):
            recover(*pair(), without(images(), train=train), SETTINGS, progress=False)


def test_training_images_that_are_validation_or_test_images_are_refused() -> None:
    drawn = TinySamples("a", 3)
    for role in ("validation", "test"):
        parts = {"train": {"a": drawn}, "validation": {}, "test": {}, role: {"other": drawn}}
        with pytest.raises(DataError, match="the same image in two roles"):
            recover(*pair(), Split(**parts, seed=0, fractions=FRACTIONS), SETTINGS, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0: expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0: expected at least 1"),
        ({"patience": -1}, "patience is -1: expected at least 0"),
        ({"lambda_b": float("nan")}, "lambda_b is nan"),
        ({"warmup_fraction": 1.5}, "warmup_fraction is 1.5: expected at most 1"),
        ({"augmentation": "mirrors"}, "unknown augmentation 'mirrors': expected one of full, flips"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: expected a number above 0"),
        ({"clip_norm": float("inf")}, "clip_norm is inf"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"accumulate": 0}, "accumulate is 0: expected at least 1"),
        ({"accumulate": 3}, "accumulate is 3: expected a divisor of the batch size, which is 16"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(MedcorePruneError, match=message):
        RecoverySettings(**options)


def test_a_shorter_recovery_warms_up_for_its_share_of_its_own_steps() -> None:
    short = RecoverySettings(steps=200, warmup_fraction=0.1).shortened(0.25)
    assert (short.steps, short.warmup) == (50, 5)
    assert RecoverySettings(steps=2).shortened(0.25).steps == 1
    assert RecoverySettings(steps=200, warmup_fraction=0.0).warmup == 0
    assert RecoverySettings(steps=3, warmup_fraction=0.01).warmup == 1


def test_the_rate_of_a_recovery_rises_over_its_warm_up_and_falls_to_nothing() -> None:
    settings = replace(SETTINGS, steps=10, warmup_fraction=0.5, validate_every=0)
    rates = recover(*pair(), images(), settings, progress=False).frame["learning_rate"] / settings.learning_rate
    assert rates[:5].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert (rates[5:].diff()[1:] < 0).all()
    assert rates.iloc[-1] < 0.1


@pytest.mark.parametrize("augmentation", AUGMENTATION_NAMES)
def test_every_augmentation_recovers_and_has_a_key_of_its_own(augmentation: str) -> None:
    model, teacher = pair()
    settings = replace(SETTINGS, augmentation=augmentation, steps=2)
    others = [replace(settings, augmentation=name) for name in AUGMENTATION_NAMES if name != augmentation]
    key = recovery_key(model, teacher, images(), settings)
    assert key not in [recovery_key(model, teacher, images(), other) for other in others]
    losses = recover(model, teacher, images(), settings, progress=False).frame["loss"]
    assert losses.tolist() != [
        recover(pair()[0], teacher, images(), other, progress=False).frame["loss"].tolist() for other in others
    ]
    assert set(AUGMENTATIONS) == set(AUGMENTATION_NAMES)


def test_batch_norms_are_trained_with_the_running_statistics_that_they_came_with() -> None:
    model, teacher = pair()
    for each in (model, teacher):
        each.image_encoder.neck.append(nn.BatchNorm2d(teacher.prompt_encoder.embed_dim))
        each.image_encoder.neck[-1].running_mean += 0.1
    norm = model.image_encoder.neck[-1]
    before = weights(norm)
    history = recover(model, teacher, images(), SETTINGS, progress=False)
    assert history.best_step is not None
    assert torch.equal(norm.running_mean, before["running_mean"])
    assert torch.equal(norm.running_var, before["running_var"])
    assert int(norm.num_batches_tracked) == 0
    recover(model, teacher, without(images(), validation={}), SETTINGS, progress=False)
    assert torch.equal(norm.running_var, before["running_var"])
    assert not torch.equal(norm.weight, before["weight"])


def test_a_key_knows_models_images_settings_and_what_is_frozen() -> None:
    model, teacher = pair()
    data = images()
    key = recovery_key(model, teacher, data, SETTINGS)
    part = model.image_encoder.blocks[0]
    part.requires_grad_(False)
    keys = [key, recovery_key(model, teacher, data, SETTINGS)]
    part.requires_grad_(True)
    keys += [
        recovery_key(model, tiny_sam(1), data, SETTINGS),
        recovery_key(teacher, model, data, SETTINGS),
        recovery_key(model, teacher, images("b"), SETTINGS),
        recovery_key(model, teacher, without(data, validation={}), SETTINGS),
        recovery_key(model, teacher, data, replace(SETTINGS, seed=1)),
        recovery_key(model, teacher, data, replace(SETTINGS, weights=RecoveryWeights(feature=0))),
    ]
    assert len(set(keys)) == len(keys)
    # neither test images nor the prompt encoder's flag, which every training clears, have a say
    model.prompt_encoder.requires_grad_(False)
    assert recovery_key(model, teacher, without(data, test={}), SETTINGS) == key
    # slices change the bits; one slice is what there was before there were any
    assert recovery_key(model, teacher, data, replace(SETTINGS, accumulate=2)) not in keys
    assert "accumulate" not in deciding(asdict(SETTINGS))


def test_the_time_of_a_step_is_measured_without_touching_the_models() -> None:
    model, teacher = pair()
    before, taught = weights(model), weights(teacher)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    assert seconds_per_step(model, teacher, images(), SETTINGS) > 0
    assert same(weights(model), before)
    assert same(weights(teacher), taught)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_a_history_survives_json() -> None:
    model, teacher = pair()
    history = recover(model, teacher, images(), SETTINGS, progress=False)
    again = RecoveryHistory.from_dict(json.loads(json.dumps(history.to_dict(), sort_keys=True)))
    pd.testing.assert_frame_equal(again.frame, history.frame, check_exact=True)
    pd.testing.assert_frame_equal(again.validations, history.validations, check_exact=True)
    assert (again.best_step, again.stopped_early, again.seconds) == (history.best_step, False, history.seconds)
    assert history.to_dict()["outcome"] == history.outcome == again.outcome


def test_a_rate_that_is_not_named_is_that_of_the_model() -> None:
    model, teacher = pair()
    few = replace(SETTINGS, steps=1, learning_rate=None, validate_every=0)
    history = recover(model, teacher, images(), few, progress=False)
    assert history.frame["learning_rate"].tolist() == [USUAL_RATE]
    named = [replace(few, learning_rate=rate) for rate in (USUAL_RATE, POCKET_RATE)]
    model, teacher = pair()
    keys = [recovery_key(model, teacher, images(), settings) for settings in (few, *named)]
    assert keys[0] == keys[1] != keys[2]
    pocket = build_sam("pocket", image_size=64)
    small = mp.prune(pocket, mp.plan(pocket, "h50_m50", "magnitude"))
    assert [rated(few, each).learning_rate for each in (pocket, small, teacher)] == [
        POCKET_RATE,
        POCKET_RATE,
        USUAL_RATE,
    ]
    assert rated(named[0], pocket) is named[0]
    with pytest.raises(MedcorePruneError, match="learning_rate is None"):
        few.training()
