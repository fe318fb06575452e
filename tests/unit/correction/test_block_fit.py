"""Whole blocks fitted behind their least squares: against a plain loop, on what is held out, all or nothing."""

import copy
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import reads
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune.correction import block_fit
from medcore_prune.correction.block_fit import BlockFitter, drawn_rows, held_out
from medcore_prune.correction.token_weights import WEIGHTINGS
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.protocol import batch_of
from medcore_prune.models.switches import set_checkpointing
from medcore_prune.models.tiny_vit.family import TinyVitFamily
from medcore_prune.models.tiny_vit.shape import TinyVitShape
from medcore_prune.pruning.planning import make_plan

TEACHER = tiny_sam()
PLAN = make_plan(TEACHER, "h50_m70")


def cut() -> nn.Module:
    return mp.prune(TEACHER, PLAN)


def sets() -> dict[str, TinySamples]:
    return {"a": TinySamples("a", 9), "b": TinySamples("b", 3)}


def correct(small: nn.Module, teacher: nn.Module = TEACHER, data: Any = None, **options: Any) -> mp.CorrectionReport:
    options = {"fit_steps": 12, **options}
    return mp.correct(small, teacher, sets() if data is None else data, progress=False, **options)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: nn.Module, other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


class Uneven(TinySamples):
    """Images in groups, of which one is larger than the others."""

    def __init__(self, name: str, groups: list[str]) -> None:
        super().__init__(name, len(groups))
        self.groups = groups


def test_no_steps_fit_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are left to least squares, which `tests/oracle/test_correction_dense.py` restates."""
    monkeypatch.setattr(BlockFitter, "__init__", lambda *_: pytest.fail("a fit was made ready"))
    one, other = cut(), cut()
    report = correct(one, fit_steps=0)
    mp.correct(other, TEACHER, sets(), progress=False)
    assert same(one, state(other))
    assert report.blocks == ()


def stream(model: nn.Module, image: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """What a block reads and gives when the whole encoder runs one image, without the batch's dimension."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = (
        encoder_of(model)
        .blocks[block]
        .register_forward_hook(lambda _module, args, output: seen.append((args[0][0], output[0])))
    )
    with torch.no_grad():
        encoder_of(model)(image)
    handle.remove()
    return seen[0]


def losses(block: nn.Module, images: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Squared error and size of one data set, image by image and token by token: (input, wanted, token weights)."""
    error = size = torch.zeros((), dtype=torch.float64)
    for tokens, wanted, weights in images:
        got = block(tokens[None])[0]
        for row in range(len(tokens)):
            for column in range(len(tokens)):
                error = error + weights[row, column] * (got - wanted)[row, column].square().sum() / len(images)
                size = size + weights[row, column] * wanted[row, column].square().sum() / len(images)
    return error, size


@pytest.mark.parametrize("weighting", ["none", "band"])
def test_the_first_block_goes_as_a_plain_loop_takes_it(weighting: str) -> None:
    teacher, steps, rate = copy.deepcopy(TEACHER).double(), 4, 3e-3
    data = {"a": TinySamples("a", 4), "b": TinySamples("b", 2)}
    options = {"weighting": weighting, "batch_size": 2, "seed": 5}
    fast, start = mp.prune(teacher, PLAN), mp.prune(teacher, PLAN)
    report = correct(fast, teacher, data, fit_steps=steps, fit_learning_rate=rate, **options)
    correct(start, teacher, data, fit_steps=0, **options)

    held = held_out([(name, image) for name, samples in data.items() for image in samples.ids], 5)
    parts: dict[bool, dict[str, list[Any]]] = {True: {}, False: {}}
    places = [(name, index) for name, samples in data.items() for index in range(len(samples))]
    for place, (name, index) in enumerate(places):
        sample = data[name][index]
        image, box = (value.double() for value in batch_of([(sample.image, sample.box)], Frame(48), "cpu"))
        layer = "image_encoder.blocks.0.mlp.lin2"
        weights = WEIGHTINGS[weighting](teacher, image, box).get(layer, torch.ones(1, 6, 6))[0].double()
        one = stream(start, image, 0)[0], stream(teacher, image, 0)[1], weights
        parts[place in held].setdefault(name, []).append(one)

    def relative(block: nn.Module, of_sets: dict[str, list[Any]]) -> Tensor:
        errors, sizes = zip(*(losses(block, images) for images in of_sets.values()), strict=True)
        return sum(errors, torch.zeros(())) / sum(sizes, torch.zeros(()))

    block = copy.deepcopy(encoder_of(start).blocks[0])
    parameters = list(block.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    seen = [(float(relative(block, parts[True]).detach()), [p.detach().clone() for p in parameters])]
    for step in range(steps):
        slopes = torch.autograd.grad(relative(block, parts[False]), parameters)
        with torch.no_grad():
            for p, m, v, slope in zip(parameters, first, second, slopes, strict=True):
                m.mul_(0.9).add_(0.1 * slope)
                v.mul_(0.999).add_(0.001 * slope**2)
                hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                p -= rate * (1 + math.cos(math.pi * step / steps)) / 2 * hat[0] / (hat[1].sqrt() + 1e-8)
        seen.append((float(relative(block, parts[True]).detach()), [p.detach().clone() for p in parameters]))

    best = min(range(len(seen)), key=lambda at: seen[at][0])
    found = report.blocks[0]
    assert found.step == best > 0
    assert found.held_out_before == pytest.approx(seen[0][0] ** 0.5, rel=1e-6)
    assert found.held_out_after == pytest.approx(seen[best][0] ** 0.5, rel=1e-6)
    for mine, wanted, before in zip(encoder_of(fast).blocks[0].parameters(), seen[best][1], seen[0][1], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-9)
        assert not torch.equal(mine, before)


def test_the_error_falls_and_what_is_held_out_never_gets_worse() -> None:
    small, plain = cut(), cut()
    report = correct(small, fit_steps=60)
    assert [block.name for block in report.blocks] == [block.name for block in blocks_of(small)]
    assert all(block.held_out_after <= block.held_out_before for block in report.blocks)
    assert report.blocks[0].fitted_after < 0.95 * report.blocks[0].fitted_before
    assert report.blocks[0].held_out_after < 0.97 * report.blocks[0].held_out_before
    # the last block's stream is that of all images
    assert report.stream_error < correct(plain, fit_steps=0).stream_error


def test_steps_that_harm_are_taken_back() -> None:
    one, other = cut(), cut()
    report = correct(one, fit_learning_rate=3.0)
    correct(other, fit_steps=0)
    assert {block.step for block in report.blocks} == {0}
    assert all(block.fitted_after == block.fitted_before for block in report.blocks)
    assert same(one, state(other))


def test_only_blocks_change() -> None:
    small = cut()
    before, parameters = state(small), dict(small.named_parameters())
    correct(small)
    changed = {name for name, value in small.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed} == {"blocks"}
    assert {"norm1", "attn", "mlp", "norm2"} == {name.split(".")[3] for name in changed}
    assert any("rel_pos" in name for name in changed)
    assert all(value is parameters[name] for name, value in small.named_parameters())


def test_flags_gradients_modes_and_teacher_are_as_before() -> None:
    small, teacher = cut(), state(TEACHER)
    small.train()
    frozen = encoder_of(small).blocks[1].norm1.weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in small.parameters()]
    correct(small)
    assert [parameter.requires_grad for parameter in small.parameters()] == flags
    assert not frozen.requires_grad
    assert all(parameter.grad is None for model in (small, TEACHER) for parameter in model.parameters())
    assert all(module.training for module in small.modules())
    assert same(TEACHER, teacher)


def test_a_seed_settles_it_and_batches_change_rounding_alone() -> None:
    models = [cut() for _ in range(4)]
    for model, options in zip(models, ({}, {}, {"batch_size": 3}, {"memory_limit_gb": 1e-9}), strict=True):
        correct(model, **options)
    assert same(models[1], state(models[0]))
    assert same(models[3], state(models[0]))
    for name, value in models[2].state_dict().items():
        torch.testing.assert_close(value, models[0].state_dict()[name], rtol=1e-2, atol=1e-3)


def test_recomputed_blocks_give_the_same() -> None:
    plain, recomputed = cut(), set_checkpointing(cut())
    correct(plain)
    correct(recomputed)
    assert same(recomputed, state(plain))


@pytest.mark.parametrize("within", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu")])
def test_a_block_around_the_call_changes_nothing(within: Any) -> None:
    plain, inside = cut(), cut()
    correct(plain, fit_steps=3)
    with within():
        correct(inside, fit_steps=3)
    assert same(inside, state(plain))


def failing(after: int) -> Any:
    def rows(*args: Any) -> Iterator[list[int]]:
        yield from islice(drawn_rows(*args), after)
        raise KeyboardInterrupt

    return rows


@pytest.mark.parametrize("after", [0, 5])
def test_an_interrupt_restores_the_model(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small = cut()
    before, fitted = state(small), []
    original = BlockFitter.fit

    def third_fails(self: BlockFitter, *args: Any) -> Any:
        fitted.append(args)
        if len(fitted) == 3:
            monkeypatch.setattr(block_fit, "drawn_rows", failing(after))
        return original(self, *args)

    monkeypatch.setattr(BlockFitter, "fit", third_fails)
    with pytest.raises(KeyboardInterrupt):
        correct(small)
    assert len(fitted) == 3
    assert same(small, before)


def test_a_fit_that_blows_up_is_named_and_restores_the_model() -> None:
    small = cut()
    before = state(small)
    with pytest.raises(StatisticsError, match=r"blocks\.0: the error of step \d+ .* fit_learning_rate below 1e\+30"):
        correct(small, fit_learning_rate=1e30)
    assert same(small, before)


def test_a_loss_that_is_not_finite_between_two_looks_is_named_by_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    original, taken = block_fit._Errors.differentiate, list[int]()

    def sometimes(self: Any, rows: dict[int, float]) -> Tensor:
        taken.append(1)
        # looks are at steps 4, 8, 12 ...; the numbers of later steps are right again
        return original(self, rows) * (math.nan if len(taken) == 6 else 1)

    monkeypatch.setattr(block_fit._Errors, "differentiate", sometimes)
    small = cut()
    before = state(small)
    with pytest.raises(StatisticsError, match=r"blocks\.0: the error of step 6 of the fit is not finite"):
        correct(small, fit_steps=40)
    assert len(taken) == 8
    assert same(small, before)


def test_no_number_is_read_step_by_step() -> None:
    found = []
    for steps in (20, 60):
        with reads.counted() as seen:
            correct(cut(), fit_steps=steps)
        found.append(len(seen))
    # as many looks, however many steps
    assert found[0] == found[1] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit_steps": -1}, "fit_steps is -1: expected at least 0"),
        ({"fit_learning_rate": 0.0}, "above 0"),
        ({"fit_learning_rate": float("nan")}, "above 0"),
        ({"data": {"a": TinySamples("a", 1)}}, "single group"),
        ({"data": {"a": Uneven("a", ["video"] * 4)}}, "single group"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        correct(cut(), **options)


def test_whole_groups_are_held_out_of_every_set() -> None:
    many = [("a", f"{row}") for row in range(24)]
    videos = [("b", name) for name in "xxxxxyyyyyzzzzz"]
    single = [("c", "one")] * 3
    groups = [*many, *videos, *single]
    chosen = held_out(groups, 0)
    assert chosen == held_out(groups, 0) != held_out(groups, 1)
    assert sum(row < 24 for row in chosen) == 3
    in_videos = {groups[row][1] for row in chosen if 24 <= row < 39}
    assert len(in_videos) == 1
    assert {row for row in chosen if row >= 24} == {row for row in range(24, 39) if groups[row][1] in in_videos}


def test_rows_come_again_when_all_have_come() -> None:
    drawn = list(islice(drawn_rows(range(20), "s"), 6))
    assert [len(rows) for rows in drawn] == [6, 7, 7] * 2
    flat = [row for rows in drawn for row in rows]
    assert sorted(flat[:20]) == sorted(flat[20:]) == list(range(20))
    assert flat[:20] != flat[20:]
    assert list(islice(drawn_rows(range(20), "t"), 6)) != drawn
    assert [sorted(rows) for rows in islice(drawn_rows([3, 5], "s"), 3)] == [[3, 5]] * 3


def convolutional() -> nn.Module:
    """A TinyViT whose stages differ in width, side and window, with layers between them, and trained-like norms."""
    shape = TinyVitShape(32, 1, (8, 16, 24, 24), (1, 2, 1, 1), (0, 2, 3, 4), (0, 3, 4, 2), 16, 2, 32, 16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyVitFamily().build(vars(shape))
    generator = torch.Generator().manual_seed(0)
    for norm in (each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.running_mean.copy_(0.1 * torch.randn(norm.num_features, generator=generator))
        norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=generator))
    return model


def test_unequal_blocks_are_fitted_and_running_statistics_stay() -> None:
    teacher = convolutional()
    plan = mp.plan(teacher, "h50_m70", "magnitude", protect=0)
    small = mp.prune(teacher, plan)
    before = state(small)
    report = correct(small, teacher, fit_steps=100)
    assert any(block.step for block in report.blocks)
    assert all(block.held_out_after <= block.held_out_before for block in report.blocks)
    changed = {name for name, value in small.state_dict().items() if not torch.equal(value, before[name])}
    assert any("local_conv.c.weight" in name for name in changed)
    assert any("local_conv.bn.weight" in name for name in changed)
    assert not any("running" in name or "tracked" in name or "downsample" in name for name in changed)
    plain = mp.prune(teacher, plan)
    assert report.stream_error < 0.95 * correct(plain, teacher, fit_steps=0).stream_error
