"""Where independent jobs run."""

import pytest

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune._support.machines.executor import Serial, executor


def test_without_an_address_jobs_stay_here() -> None:
    with mp.machines(None, "cuda"):
        assert isinstance(executor(), Serial)


def test_jobs_take_no_gpu_of_a_number() -> None:
    with (
        pytest.raises(MedcorePruneError, match=r"device cuda:1 .* expected cuda, of which each takes one"),
        mp.machines("auto", "cuda:1"),
    ):
        pass


def test_a_cluster_without_gpus_is_left_where_jobs_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    left: list[bool] = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "shutdown", lambda: left.append(True))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    with pytest.raises(MedcorePruneError, match=r"here:1: no machine of the cluster has a GPU"):
        mp.machines("here:1", "cuda").__enter__()
    assert left


def test_a_cluster_that_does_not_start_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def late(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nMore")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(MedcorePruneError, match=r"auto: no Ray cluster there \(.*timed out during startup\.\)"):
        mp.machines("auto").__enter__()
