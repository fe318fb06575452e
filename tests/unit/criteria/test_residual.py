import pytest
import torch
from reads import counted
from scoring import micro_world

from medcore_prune._support.errors import CriterionError
from medcore_prune.criteria.residual import Residual, _part, damped, in_rounds, residual_rise


def test_independent_inputs_cost_what_they_carry() -> None:
    """H = I: nothing can stand in, so each unit costs the squared norm of its columns."""
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    members = torch.tensor([[0, 1], [2, 3]])
    assert residual_rise(weight, torch.eye(4, dtype=torch.float64), members).tolist() == [5.0, 26.0]


def twins() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs 0 and 1 are the same but for rounding, input 2 is apart and small."""
    rng = torch.Generator().manual_seed(0)
    first, third = torch.randn((2, 200), generator=rng, dtype=torch.float64)
    inputs = torch.stack([first, first, 0.3 * third], dim=1)
    return torch.ones((1, 3), dtype=torch.float64), damped(inputs.T @ inputs, 1e-6)


SINGLES = torch.arange(3)[:, None]


def test_twins_are_cheap_at_once_and_dear_in_turn() -> None:
    weight, matrix = twins()
    at_once = residual_rise(weight, torch.linalg.inv(matrix), SINGLES)
    assert at_once.argsort()[-1] == 2
    assert in_rounds(weight, matrix, SINGLES, 1).argsort()[-1] == 2
    # one twin goes for nothing, then the small input, and the twin that is left last
    order = in_rounds(weight, matrix, SINGLES, 3).argsort().tolist()
    assert order[1] == 2
    assert {order[0], order[2]} == {0, 1}


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_last_unit_carries_everything(rounds: int) -> None:
    weight, matrix = twins()
    scores = in_rounds(weight, matrix, SINGLES, rounds)
    torch.testing.assert_close(scores.max(), torch.trace(weight @ matrix @ weight.T))


def test_more_rounds_lose_less() -> None:
    """16 inputs in which 8 sources are mixed: what stays lost without 10 of them, by the number of rounds."""
    rng = torch.Generator().manual_seed(1)
    sources, mixing = torch.randn((300, 8), generator=rng), torch.randn((8, 16), generator=rng)
    inputs = (sources @ mixing + 0.1 * torch.randn((300, 16), generator=rng)).double()
    weight = torch.randn((5, 16), generator=rng, dtype=torch.float64)
    matrix = damped(inputs.T @ inputs, 1e-3)
    inverse = torch.linalg.inv(matrix)

    def lost(rounds: int) -> float:
        order = in_rounds(weight, matrix, torch.arange(16)[:, None], rounds).argsort()
        return float(residual_rise(weight, inverse, order[None, :10]))

    assert lost(16) < lost(1)


@pytest.mark.parametrize("transposed", [False, True], ids=["row by row", "column by column"])
def test_a_part_of_a_matrix_is_what_its_indices_say(transposed: bool) -> None:
    matrix = torch.arange(30.0).view(5, 6)
    matrix = matrix.T.contiguous().T if transposed else matrix
    part = _part(matrix, torch.tensor([3, 0]), torch.tensor([5, 1, 2]))
    assert part.tolist() == [[23.0, 19.0, 20.0], [5.0, 1.0, 2.0]]
    assert part.is_contiguous()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("rounds", [1, 8])
def test_a_device_is_waited_for_once_a_group(rounds: int, width: int) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn((40, 16), generator=rng).double(), torch.randn((5, 16), generator=rng).double()
    with counted("item") as reads:
        matrix = damped(inputs.T @ inputs, 1e-3)
        in_rounds(weight, matrix, torch.arange(16).view(-1, width), rounds)
    assert len(reads) == 1


def test_scores_of_statistics_are_read_twice_a_group_and_set() -> None:
    """Once to see whether the sums are finite, once whether they could be inverted."""
    world = micro_world()
    statistics = world.tensors.statistics()
    criterion = Residual()
    with counted("item") as reads:
        for name in statistics.datasets:
            criterion._scores(world.groups, statistics.view({name: 1.0}, 0.0))
    assert len(reads) == 2 * len(world.groups) * len(statistics.datasets)


@pytest.mark.parametrize("members", [SINGLES, SINGLES.view(1, 3)])
def test_inputs_that_cannot_be_told_apart_are_refused(members: torch.Tensor) -> None:
    with pytest.raises(CriterionError, match="singular even with the ridge: choose a larger ridge"):
        in_rounds(torch.ones(1, 3), torch.ones(3, 3), members, 2)


def test_a_layer_without_inputs_loses_nothing_but_the_ridge() -> None:
    assert torch.equal(damped(torch.zeros(3, 3), 0.1), torch.eye(3))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rounds": 0}, "rounds is 0: expected a whole number of at least 1"),
        ({"rounds": 2.5}, "rounds is 2.5: expected a whole number of at least 1"),
        ({"tokens": "some"}, "unknown tokens 'some': expected one of alike, by_gradient"),
        ({"ridge": 0.0}, "ridge is 0.0: expected a finite number above 0"),
    ],
)
def test_refusals(settings: dict[str, object], says: str) -> None:
    with pytest.raises(CriterionError, match=says):
        Residual(**settings)  # type: ignore[arg-type]
