"""Where independent jobs run."""

import pytest

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.machines.executor import Serial, executor


def test_without_an_address_jobs_stay_here() -> None:
    with mp.machines(None, "cuda"):
        assert isinstance(executor(), Serial)


def test_a_cluster_does_not_compute_on_gpus() -> None:
    with (
        pytest.raises(MedcorePruneError, match=r"compute on processors: .* or the device cuda"),
        mp.machines("auto", "cuda"),
    ):
        pass
