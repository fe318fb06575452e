"""The speed comparison runs, and what it times gives the same numbers on both sides."""

import json
from importlib.util import find_spec

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed.fisher import (
    OPACUS,
    WAYS,
    batched_fisher,
    command,
    loop_fisher,
    measure,
    opacus_fisher,
)
from medcore_prune.benchmarks.speed.timed import random_batch
from medcore_prune.models.families import geometry_of


def test_batch_and_loop_sum_the_same_squares() -> None:
    model = tiny_sam()
    batch = random_batch(geometry_of(model).image_size, 3)
    batched, loop = batched_fisher(model, batch, ("plain",)), loop_fisher(model, batch)
    assert len(batched) == len(loop) > 0
    for name, square in loop.items():
        torch.testing.assert_close(batched[f"plain_plain/{name}"], square, rtol=1e-4, atol=1e-6 * float(square.max()))


def test_opacus_sums_the_same_squares_and_leaves_the_model() -> None:
    pytest.importorskip(OPACUS)
    model = tiny_sam()
    before = [parameter.requires_grad for parameter in model.parameters()]
    batch = random_batch(geometry_of(model).image_size, 3)
    run = opacus_fisher(model)
    first, again, loop = run(batch), run(batch), loop_fisher(model, batch)
    assert first.keys() == loop.keys()
    for name, square in loop.items():
        torch.testing.assert_close(first[name], square, rtol=1e-4, atol=1e-6 * float(square.max()))
        assert torch.equal(first[name], again[name])
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    # no hook of Opacus's is left behind
    batched_fisher(model, batch, ("plain",))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.benchmarks.speed.fisher.find_spec", lambda _: None)
    result = measure(tiny_sam(), batch_size=1, repeats=1)
    assert result["left_out"] == {OPACUS: "not installed"}
    assert not [key for key in result if key.startswith(OPACUS)]


def test_every_way_is_timed_and_its_memory_counted() -> None:
    result = measure(tiny_sam(), batch_size=2, repeats=1)
    for name in (*WAYS, *([OPACUS] if find_spec(OPACUS) else [])):
        assert result[f"{name}_ms"] > 0
        assert result[f"{name}_peak_mb"] > 0
    assert result["loop_over_one_loss"] == pytest.approx(result["loop_ms"] / result["one_loss_ms"], rel=0.2)


def test_the_command_prints_json() -> None:
    result = CliRunner().invoke(command, ["--batch-size", "1", "--repeats", "1", "--image-size", "48"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["one_loss_over_plain"] > 0
