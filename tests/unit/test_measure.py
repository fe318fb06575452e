"""Peak bytes of tensors by hand."""

import pytest
import torch

from medcore_prune.measure import measured


def test_peak_is_the_most_alive_at_a_time() -> None:
    with measured() as cost:
        first = torch.zeros(1000)  # 4000 bytes
        second = first + 1  # 8000
        del first
        third = second * 2  # 8000 again
        view = third.view(10, 100)  # shares its storage
        del second
        small = torch.ones(10)  # 4040
    assert cost.peak_bytes == 8000
    assert cost.seconds > 0
    assert view.shape == (10, 100)
    assert small.numel() == 10


def test_changes_in_place_and_what_was_there_before_count_nothing() -> None:
    before = torch.zeros(5000)
    with measured() as cost:
        before.add_(1).mul_(2)
    assert cost.peak_bytes == 0


def _fail() -> None:
    raise ValueError("inside")


def test_an_error_passes() -> None:
    with pytest.raises(ValueError, match="inside"), measured():
        _fail()
