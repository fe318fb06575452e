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


def test_a_cluster_that_does_not_start_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def late(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nMore")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(MedcorePruneError, match=r"auto: no Ray cluster there \(.*timed out during startup\.\)"):
        mp.machines("auto").__enter__()
