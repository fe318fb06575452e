import json
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import ResultsError
from medcore_prune.data.splits.split import Split, split
from medcore_prune.pruning.surgery import lineage_of
from medcore_prune.training import store as recovery_store
from medcore_prune.training.recover import recover
from medcore_prune.training.settings import RecoverySettings
from medcore_prune.training.store import RecoveryStore

SETTINGS = RecoverySettings(steps=3, batch_size=2, learning_rate=2e-3, validate_every=0)


def images() -> Split:
    return split({"a": TinySamples("a", 6)}, fractions=(0.5, 0.25, 0.25))


def pair() -> tuple[nn.Module, nn.Module]:
    teacher = tiny_sam()
    return mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1)), teacher


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def never(*_arguments: object, **_options: object) -> None:
    raise AssertionError("it was computed again")


def test_a_recovery_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, teacher = pair()
    data, store = images(), RecoveryStore(tmp_path)
    key = store.key(model, teacher, data, SETTINGS)
    assert not store.has(key)
    first, history = store.recover(model, teacher, data, SETTINGS, progress=False)
    assert store.has(key)
    monkeypatch.setattr(recovery_store, "recover", never)
    again, told = RecoveryStore(tmp_path).recover(model, teacher, data, SETTINGS, progress=False)
    assert same(first, again)
    pd.testing.assert_frame_equal(told.frame, history.frame, check_exact=True)
    assert told.seconds == history.seconds
    assert not again.training
    assert lineage_of(again).plan is not None
    assert lineage_of(again) == lineage_of(model)


def test_it_is_what_recover_does_and_leaves_the_model(tmp_path: Path) -> None:
    model, teacher = pair()
    stored, _ = RecoveryStore(tmp_path).recover(model, teacher, images(), SETTINGS, progress=False)
    assert same(model, pair()[0])
    recover(model, teacher, images(), SETTINGS, progress=False)
    assert same(model, stored)


def test_only_weights_and_history_stay(tmp_path: Path) -> None:
    model, teacher = pair()
    store = RecoveryStore(tmp_path)
    store.recover(model, teacher, images(), SETTINGS, progress=False)
    (place,) = tmp_path.iterdir()
    assert {path.name for path in place.iterdir()} - {".lock"} == {"weights.safetensors", "history.json"}
    entry = json.loads((place / "history.json").read_text())
    assert entry["key"] == store.key(model, teacher, images(), SETTINGS)


def test_an_interrupted_recovery_goes_on_from_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, teacher = pair()
    data, store = images(), RecoveryStore(tmp_path)
    key = store.key(model, teacher, data, SETTINGS)
    save = RecoveryStore._save

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RecoveryStore, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        store.recover(model, teacher, data, SETTINGS, progress=False)
    assert not store.has(key)
    monkeypatch.setattr(RecoveryStore, "_save", save)
    # nothing is left to train: the state has it all
    monkeypatch.setattr("medcore_prune.training.loop._take_step", never)
    resumed, history = store.recover(model, teacher, data, SETTINGS, progress=False)
    assert store.has(key)
    assert len(history.frame) == 3
    recover_whole = pair()[0]
    monkeypatch.undo()
    recover(recover_whole, teacher, data, SETTINGS, progress=False)
    assert same(resumed, recover_whole)


def test_weights_without_a_history_are_not_a_recovery(tmp_path: Path) -> None:
    model, teacher = pair()
    data, store = images(), RecoveryStore(tmp_path)
    first, _ = store.recover(model, teacher, data, SETTINGS, progress=False)
    key = store.key(model, teacher, data, SETTINGS)
    (place,) = tmp_path.iterdir()
    (place / "history.json").unlink()
    (place / "weights.safetensors").write_bytes(b"half a file")
    assert not store.has(key)
    assert same(store.recover(model, teacher, data, SETTINGS, progress=False)[0], first)


@pytest.mark.parametrize("name", ["weights.safetensors", "history.json"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    model, teacher = pair()
    store = RecoveryStore(tmp_path)
    store.recover(model, teacher, images(), SETTINGS, progress=False)
    (place,) = tmp_path.iterdir()
    whole = (place / name).read_bytes()
    (place / name).write_bytes(whole[:-40])
    with pytest.raises(ResultsError, match=r"damaged recovery .*remove the folder to do it again"):
        store.recover(model, teacher, images(), SETTINGS, progress=False)


def test_other_settings_are_another_recovery(tmp_path: Path) -> None:
    model, teacher = pair()
    store, other = RecoveryStore(tmp_path), replace(SETTINGS, seed=1)
    first, _ = store.recover(model, teacher, images(), SETTINGS, progress=False)
    assert not store.has(store.key(model, teacher, images(), other))
    assert not same(store.recover(model, teacher, images(), other, progress=False)[0], first)


def test_a_second_process_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, teacher = pair()
    data, store = images(), RecoveryStore(tmp_path)
    store.recover(model, teacher, data, SETTINGS, progress=False)
    monkeypatch.setattr(recovery_store, "recover", never)
    (place,) = tmp_path.iterdir()
    other, done = FileLock(place / ".lock"), threading.Event()

    def wait() -> None:
        store.recover(model, teacher, data, SETTINGS, progress=False)
        done.set()

    with other:
        second = threading.Thread(target=wait)
        second.start()
        assert not done.wait(0.5)
    second.join(30)
    assert done.is_set()
    assert "waiting for it" in capsys.readouterr().err
