"""Rounds and medians of the timings."""

from medcore_prune.benchmarks.speed.timed import median_ms, median_ratio, rounds_of


def test_the_first_round_warms_up_and_does_not_count() -> None:
    taken = iter([{"way": 9.0}, {"way": 1.0}, {"way": 2.0}, {"way": 3.0}])
    rounds = rounds_of(lambda: next(taken), 3)
    assert [each["way"] for each in rounds] == [1.0, 2.0, 3.0]


def test_ratios_are_taken_within_rounds() -> None:
    # the machine is slow in the second round: the medians' ratio would be 2 / 4
    rounds = [{"a": 1.0, "b": 4.0}, {"a": 100.0, "b": 10.0}, {"a": 2.0, "b": 1.0}]
    assert median_ratio(rounds, "a", "b") == 2.0
    assert (median_ms(rounds, "a"), median_ms(rounds, "b")) == (2000.0, 4000.0)
