"""`correct` itself: what changes and what does not, all or nothing, data sets, settings, refusals."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed, TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, StatisticsError, SurgeryError
from medcore_prune.correction import run
from medcore_prune.correction.correct import Corrector
from medcore_prune.correction.least_squares import NormalEquations
from medcore_prune.correction.settings import TARGETS, CorrectionSettings
from medcore_prune.correction.streams import Stream
from medcore_prune.correction.token_weights import WEIGHTINGS, adding_layers
from medcore_prune.data.frame import Frame
from medcore_prune.data.splits.split import split
from medcore_prune.models.families import encoder_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.planning import make_plan

TEACHER = tiny_sam()
# the last block keeps everything, as protected blocks do
PLAN = make_plan(TEACHER, "h50_m70")


def cut() -> nn.Module:
    return mp.prune(TEACHER, PLAN)


def sets(count: int = 6, name: str = "a") -> dict[str, TinySamples]:
    return {name: TinySamples(name, count)}


def correct(small: nn.Module, data: Any = None, **options: Any) -> mp.CorrectionReport:
    return mp.correct(small, TEACHER, sets() if data is None else data, progress=False, **options)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def error_of(small: nn.Module, samples: Iterator[Any] | TinySamples) -> float:
    """Relative distance of the embeddings from the unpruned model's."""
    images = torch.stack([Frame(48).image(sample.image) for sample in samples])
    with torch.no_grad():
        dense, got = encoder_of(TEACHER)(images), encoder_of(small)(images)
    return float((dense - got).norm() / dense.norm())


@pytest.mark.parametrize("keep", [{"keep": False}, {"keep": True}, {"keep": True, "memory_limit_gb": 1e-9}])
def test_a_corrector_weighs_once_and_gives_what_correct_gives(
    keep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    weigh = WEIGHTINGS["gradient_norm"]
    monkeypatch.setitem(WEIGHTINGS, "gradient_norm", lambda *args: (seen.append(len(args[1])), weigh(*args))[1])
    read: list[str] = []
    item = TinySamples.__getitem__
    monkeypatch.setattr(TinySamples, "__getitem__", lambda self, n: (read.append(f"{self.name}{n}"), item(self, n))[1])
    data = {**sets(3, "a"), **sets(2, "b")}
    corrector = Corrector(TEACHER, data, CorrectionSettings(), batch_size=2, progress=False, **keep)
    read.clear()
    other = mp.prune(TEACHER, make_plan(TEACHER, "h25_m30"))
    first, again = cut(), cut()
    reports = [corrector.correct(small) for small in (first, other, again)]
    assert seen == [2, 1, 2]
    assert len(read) == (5 if keep == {"keep": True} else 15)
    once = cut()
    report = correct(once, data, batch_size=2)
    assert report.layers == reports[0].layers == reports[2].layers != reports[1].layers
    assert all(torch.equal(value, state(once)[name]) for name, value in state(again).items())


@pytest.mark.parametrize("options", [{}, {"target": "layer"}, {"fit_steps": 2}])
def test_models_corrected_together_are_those_corrected_alone(options: dict[str, Any]) -> None:
    settings, data = CorrectionSettings(**options), {**sets(4, "a"), **sets(3, "b")}
    plans = [make_plan(TEACHER, level) for level in ("h50_m70", "h25_m30", "h75_m90")]
    alone = [mp.prune(TEACHER, plan) for plan in plans]
    reports = [Corrector(TEACHER, data, settings, batch_size=2, progress=False).correct(small) for small in alone]
    together = [mp.prune(TEACHER, plan) for plan in plans]
    found = Corrector(TEACHER, data, settings, batch_size=2, progress=False).correct_all(together)
    assert [(report.layers, report.blocks, report.stream_error) for report in found] == [
        (report.layers, report.blocks, report.stream_error) for report in reports
    ]
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(value, state(other)[name]) for name, value in state(one).items())
    assert len({report.stream_error for report in found}) == 3
    streams = 2 if options.get("target") == "layer" else 1
    assert [report.state_bytes for report in found] == [(streams + 3) * 7 * 36 * 24 * 4] * 3


@pytest.mark.parametrize(
    ("limit_streams", "groups"), [(4, [3, 3, 3, 1]), (2, [1] * 10), (0.5, [1] * 10), (1e6, [8, 2])]
)
def test_the_teacher_runs_once_for_as_many_models_as_have_room(
    limit_streams: float, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = 5 * 36 * 24 * 4
    corrector = Corrector(
        TEACHER,
        sets(5),
        CorrectionSettings(),
        batch_size=2,
        memory_limit_gb=limit_streams * stream / 1e9,
        progress=False,
    )
    runs: list[nn.Module] = []
    whole = run.observe_both
    monkeypatch.setattr(run, "observe_both", lambda model, *args: (runs.append(model), whole(model, *args))[1])
    made = corrector.correct_all([cut() for _ in range(10)])
    assert [report.state_bytes for report in made] == [(1 + n) * stream for n in groups for _ in range(n)]
    # three batches a block
    assert runs == [TEACHER] * (len(groups) * 3 * len(encoder_of(TEACHER).blocks))


def test_streams_are_read_and_written_no_more_than_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"read": 0, "write": 0}

    def counted(name: str) -> None:
        original = getattr(Stream, name)

        def spy(self: Stream, *args: Any) -> Any:
            calls[name] += 1
            return original(self, *args)

        monkeypatch.setattr(Stream, name, spy)

    counted("read")
    counted("write")
    Corrector(TEACHER, sets(2), CorrectionSettings(), batch_size=2, progress=False).correct_all([cut(), cut(), cut()])
    blocks = len(encoder_of(TEACHER).blocks)
    # the teacher: into and out of its block, and the target of `lin2`; each model: two layers, and into and out of its
    # block; at the end both for the error, at the start the first block's tokens
    assert calls == {"read": blocks * (2 + 3 * 3) + 2 * 3, "write": blocks * (1 + 3) + 1 + 3}


def test_none_of_several_models_is_left_half_done() -> None:
    first, second = cut(), cut()
    before = state(first)
    with torch.no_grad():
        encoder_of(second).blocks[2].mlp.lin1.bias[0] = float("inf")
    with pytest.raises(StatisticsError, match=r"blocks\.2\.mlp\.lin2.*not finite"):
        Corrector(TEACHER, sets(), CorrectionSettings(), progress=False).correct_all([first, second])
    assert all(torch.equal(value, before[name]) for name, value in state(first).items())


@pytest.mark.parametrize("bias", [False, True])
def test_only_adding_layers_change(bias: bool) -> None:
    small = cut()
    before = state(small)
    parameters = dict(small.named_parameters())
    correct(small, bias=bias, values=False)
    may = {f"{name}.{kind}" for name in adding_layers(small) for kind in (("weight", "bias") if bias else ("weight",))}
    changed = {name for name, value in small.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == may
    assert all(value is parameters[name] for name, value in small.named_parameters())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_images_not_seen_come_closer_to_the_unpruned_model(target: str, weighting: str) -> None:
    small, unseen = cut(), TinySamples("unseen", 4)
    before = error_of(small, unseen)
    report = correct(small, sets(12), target=target, weighting=weighting)
    assert error_of(small, unseen) < 0.8 * before
    assert all(layer.residual_after <= layer.residual_before + 1e-9 for layer in report.layers)


def test_following_the_stream_comes_closer_than_following_the_layers() -> None:
    errors = {target: correct(cut(), target=target).stream_error for target in TARGETS}
    assert errors["stream"] < 0.9 * errors["layer"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_cut_that_removes_nothing_leaves_layers_within_rounding(target: str, bias: bool) -> None:
    small = mp.prune(TEACHER, make_plan(TEACHER, "h0_m0"))
    before = state(small)
    report = correct(small, target=target, bias=bias)
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-5)
    assert report.stream_error < 1e-5


def test_the_report_tells_what_was_done() -> None:
    data = {"a": TinySamples("a", 3), "b": TinySamples("b", 5)}
    small = cut()
    report = correct(small, data, samples=4, ridge=1e-2)
    assert report.images == {"a": 3, "b": 4}
    assert [layer.name for layer in report.layers] == list(adding_layers(small))
    assert {layer.tokens for layer in report.layers} == {7 * 36}
    assert report.settings == mp.CorrectionSettings(ridge=1e-2)
    assert report.state_bytes == 2 * 7 * 36 * 24 * 4
    assert report.seconds > 0


def test_a_large_ridge_keeps_what_the_cut_left() -> None:
    small = cut()
    before = state(small)
    correct(small, ridge=1e9, values=False)
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-4)


def test_batch_size_changes_the_result_by_rounding_alone() -> None:
    one, other = cut(), cut()
    correct(one, sets(5), batch_size=1)
    correct(other, sets(5), batch_size=4)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_streams_on_disk_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = cut(), cut()
    correct(one)
    mapped: list[Any] = []
    original = torch.from_file

    def spy(*args: Any, **options: Any) -> torch.Tensor:
        mapped.append(args[0])
        return original(*args, **options)

    monkeypatch.setattr(torch, "from_file", spy)
    correct(other, memory_limit_gb=1e-6)
    assert len(mapped) == 2
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_every_data_set_weighs_the_same() -> None:
    """A set repeated image by image counts once: the result is that of both sets once each."""
    first, second = TinySamples("a", 2), TinySamples("b", 2)
    one, other = cut(), cut()
    correct(one, {"a": first, "b": second})
    correct(other, {"a": Fixed([*first, *first], ["0", "1", "2", "3"]), "b": second})
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_a_split_gives_its_calibration_draw_and_nothing_else() -> None:
    parts = split(sets(20), seed=3)
    one, other = cut(), cut()
    correct(one, parts, samples=4, seed=2)
    correct(other, parts.calibration(4, 2), seed=2)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_flags_modes_and_hooks_are_as_before() -> None:
    small = cut()
    small.train()
    small.mask_decoder.eval()
    frozen = encoder_of(small).blocks[1].attn.proj.weight.requires_grad_(False)
    flags = [parameter.requires_grad for model in (small, TEACHER) for parameter in model.parameters()]
    modes = [module.training for model in (small, TEACHER) for module in model.modules()]
    correct(small, weighting="gradient")
    assert [parameter.requires_grad for model in (small, TEACHER) for parameter in model.parameters()] == flags
    assert [module.training for model in (small, TEACHER) for module in model.modules()] == modes
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in small.parameters())
    modules = [module for model in (small, TEACHER) for module in model.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_the_teacher_is_left_as_it_is() -> None:
    before = state(TEACHER)
    correct(cut(), weighting="band")
    assert all(torch.equal(value, before[name]) for name, value in TEACHER.state_dict().items())


def test_a_failure_half_way_leaves_the_model_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    small = cut()
    before, calls = state(small), []
    original = NormalEquations.solve

    def fail_at_the_fifth(self: NormalEquations, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(NormalEquations, "solve", fail_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        correct(small)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_values_that_are_not_finite_are_named_and_nothing_changes() -> None:
    small = cut()
    with torch.no_grad():
        encoder_of(small).blocks[2].mlp.lin1.bias[0] = float("inf")
    before = state(small)
    with pytest.raises(StatisticsError, match=r"blocks\.2\.mlp\.lin2.*not finite"):
        correct(small)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_too_few_tokens_without_ridge_are_refused() -> None:
    small = cut()
    with pytest.raises(StatisticsError, match="more images or a larger ridge"):
        correct(small, sets(1), ridge=0.0, values=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "loudness"}, "none, band, gradient, gradient_norm"),
        ({"target": "moon"}, "stream, layer"),
        ({"ridge": -1.0}, "at least 0"),
        ({"ridge": float("nan")}, "finite"),
        ({"ridge": 0.0, "values": True}, "above 0"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        correct(cut(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "at least 1"),
        ({"data": {}}, "no training data set"),
        ({"data": {"a": Fixed([])}}, "no training image"),
        ({"data": [1]}, "got list"),
    ],
)
def test_no_images_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        correct(cut(), **options)


def test_models_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(SurgeryError, match="one object"):
        correct(TEACHER)
    with pytest.raises(SurgeryError, match="differ in size"):
        correct(build_sam("pocket"))


def test_an_encoder_alone_is_corrected_without_weights_only() -> None:
    teacher = encoder_of(TEACHER)
    small = mp.prune(teacher, PLAN)
    with pytest.raises(SurgeryError, match="weighting='none'"):
        mp.correct(small, teacher, sets(), weighting="band", progress=False)
    report = mp.correct(small, teacher, sets(), weighting="none", progress=False)
    assert report.layers[0].name == "blocks.0.attn.proj"


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_autocast_block_around_the_call_changes_nothing(weighting: str, dtype: torch.dtype) -> None:
    plain, within = cut(), cut()
    wanted = correct(plain, sets(2), weighting=weighting)
    with torch.autocast("cpu", dtype):
        report = correct(within, sets(2), weighting=weighting)
    assert all(torch.equal(value, state(plain)[name]) for name, value in state(within).items())
    assert report.layers == wanted.layers
    assert report.stream_error == wanted.stream_error


def test_what_autocast_made_of_the_old_weights_is_forgotten() -> None:
    small = cut()
    images = torch.stack([Frame(48).image(sample.image) for sample in TinySamples("a", 2)])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        encoder_of(small)(images)
        correct(small, sets(2))
        got = encoder_of(small)(images)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(got, encoder_of(small)(images))
