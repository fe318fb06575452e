import pytest
import torch
from torch import nn

from medcore_prune._support.errors import StatisticsError
from medcore_prune.correction.least_squares import NormalEquations


def layer(inputs: int = 3, outputs: int = 2, bias: bool = True) -> nn.Linear:
    made = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    with torch.no_grad():
        for parameter, seed in zip(made.parameters(), (1, 2), strict=False):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return made


def tokens(count: int = 50, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_map_is_found_again(bias: bool) -> None:
    truth, x = layer().double(), tokens()
    start = layer()
    with torch.no_grad():
        start.weight.zero_()
        start.bias.copy_(torch.zeros(2) if bias else truth.bias)
    equations = NormalEquations(start, bias=bias)
    equations.add(x[:20], truth(x[:20]))
    equations.add(x[20:], truth(x[20:]))
    found = equations.solve(0.0)
    torch.testing.assert_close(found.weight, truth.weight, rtol=1e-9, atol=1e-9)
    if bias:
        assert found.bias is not None
        torch.testing.assert_close(found.bias, truth.bias, rtol=1e-9, atol=1e-9)
    assert found.residual_before == pytest.approx(1.0)
    assert found.residual_after < 1e-6


def test_the_ridge_is_relative_to_the_mean_diagonal() -> None:
    one = layer(1, 1, bias=False)
    with torch.no_grad():
        one.weight.fill_(3.0)
    for scale in (1.0, 100.0):
        equations = NormalEquations(one)
        equations.add(torch.tensor([[scale]]), torch.tensor([[scale]]))
        # halfway between what the token asks for, 1, and the old weight, 3
        assert float(equations.solve(1.0).weight) == pytest.approx(2.0)


def test_a_weight_counts_as_so_many_tokens() -> None:
    x, t = tokens(4), tokens(4, 2, seed=1)
    counts = torch.tensor([1, 2, 0, 3])
    weighted, repeated = NormalEquations(layer()), NormalEquations(layer())
    weighted.add(x, t, counts.float(), share=0.5)
    repeated.add(x.repeat_interleave(counts, dim=0), t.repeat_interleave(counts, dim=0), share=0.5)
    one, other = weighted.solve(0.1), repeated.solve(0.1)
    torch.testing.assert_close(one.weight, other.weight)
    assert one.residual_after == pytest.approx(other.residual_after)


def test_residuals_are_those_of_the_tokens() -> None:
    fitted, x, t = layer(), tokens(), tokens(50, 2, seed=1)
    equations = NormalEquations(fitted, bias=True)
    equations.add(x, t)
    found = equations.solve(0.01)
    assert found.bias is not None
    before = (t - fitted.double()(x)).norm() / t.norm()
    after = (t - x @ found.weight.T - found.bias).norm() / t.norm()
    assert found.residual_before == pytest.approx(float(before))
    assert found.residual_after == pytest.approx(float(after))


@pytest.mark.parametrize("bias", [False, True])
def test_inputs_that_are_all_zero_leave_the_weights(bias: bool) -> None:
    fitted = layer()
    equations = NormalEquations(fitted, bias=bias)
    equations.add(torch.zeros(5, 3), torch.ones(5, 2))
    found = equations.solve(1e-3)
    torch.testing.assert_close(found.weight, fitted.weight.double())
    if bias:
        torch.testing.assert_close(found.bias, torch.ones(2, dtype=torch.float64))


def test_inputs_that_determine_no_weights_are_refused_without_a_ridge() -> None:
    equations = NormalEquations(layer())
    equations.add(torch.zeros(5, 3), torch.ones(5, 2))
    with pytest.raises(StatisticsError, match=r"blocks\.0.*do not determine .* larger ridge than 0"):
        equations.solve(0.0, "blocks.0")


def test_values_that_are_not_finite_are_refused() -> None:
    equations = NormalEquations(layer())
    equations.add(torch.tensor([[1.0, float("nan"), 0.0]]), torch.ones(1, 2))
    with pytest.raises(StatisticsError, match="not finite"):
        equations.solve(1e-3)
