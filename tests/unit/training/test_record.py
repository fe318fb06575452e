import numpy as np
import pytest
import torch

from medcore_prune.evaluation.intervals import Bootstrap, paired_error
from medcore_prune.training.record import Scores, TrainRecord, declined

FALLING = [(0, 0.5, 1.0), (10, 0.6, 0.01), (20, 0.55, 0.01), (30, 0.54, 0.01), (40, 0.53, 0.01)]


@pytest.mark.parametrize(
    ("looks", "patience", "warmup", "ends"),
    [
        (FALLING, 3, 0, True),
        (FALLING, 3, 20, False),
        (FALLING, 2, 20, True),
        (FALLING, 4, 0, False),  # the best look is one of the four
        (FALLING, 0, 0, False),
        (FALLING[:1], 1, 0, False),
        ([(step, score, 0.05) for step, score, _ in FALLING], 3, 0, False),
        ([*FALLING[:2], (20, 0.53, 0.01), (30, 0.54, 0.01), (40, 0.55, 0.01)], 3, 0, False),
        ([*FALLING[:2], (20, 0.53, 0.01), (30, 0.59, 0.01), (40, 0.52, 0.01)], 3, 0, False),
        ([], 1, 0, False),
    ],
)
def test_only_a_decline_beyond_the_noise_ends_a_training(
    looks: list[tuple[int, float, float]], patience: int, warmup: int, ends: bool
) -> None:
    assert declined(looks, patience, warmup) is ends
    record = TrainRecord(validations=[{"step": s, "bf1": v, "dice": 0.9, "noise": n} for s, v, n in looks])
    assert record.declined(patience, warmup) is ends


def test_looks_of_nothing_but_noise_hardly_ever_end_a_training() -> None:
    rng, ended = np.random.default_rng(0), 0
    groups = {"a": [str(n) for n in range(40)]}
    for _ in range(200):
        images, looks = rng.uniform(0.3, 0.7, 40), list[tuple[int, float, float]]()
        best = torch.tensor(images)
        for step in range(13):
            values = torch.tensor(images + rng.normal(0, 0.05, 40))
            score = float(values.mean())
            looks.append((step, score, Scores({"bf1": score}, {"a": values}, groups).noise_against({"a": best})))
            if score >= max(earlier for _, earlier, _ in looks):
                best = values
        ended += any(declined(looks[:count], 3, 0) for count in range(2, 14))
    # a rule without noise, patience alone, would end nearly all of them
    assert ended <= 6


def test_the_noise_is_what_bootstrap_draws_deviate_by() -> None:
    rng = np.random.default_rng(1)
    groups = {"alone": [f"i{n}" for n in range(60)], "video": [f"v{n // 5}" for n in range(80)]}
    shared = np.repeat(rng.normal(0, 0.1, 16), 5)
    differences = {"alone": rng.normal(0.1, 0.2, 60), "video": shared + rng.normal(0, 0.05, 80)}
    _, draws = Bootstrap(groups, draws=20000).macro(differences)
    assert paired_error(differences, groups) == pytest.approx(float(draws.std()), rel=0.08)
    # frames of a video are no evidence of their own
    loose = {"alone": groups["alone"], "video": [f"f{n}" for n in range(80)]}
    assert paired_error(differences, loose) < 0.9 * paired_error(differences, groups)


def test_an_unknown_noise_is_as_large_as_a_difference_can_be() -> None:
    one = Scores({"bf1": 0.2}, {"a": torch.tensor([0.2, 0.3])}, {"a": ["x", "x"]})
    assert one.noise_against({"a": torch.tensor([0.9, 0.9])}) == 1.0
    assert one.noise_against({}) == 1.0
    assert not declined([(0, 1.0, 1.0), (1, 0.0, 1.0)], 1, 0)
