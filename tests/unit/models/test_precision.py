"""The precision of a run: torch's switches set alike for a block and put back, and words that are refused."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune import MedcorePruneError
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.models import precision
from medcore_prune.models.precision import (
    computing,
    current_precision,
    exactly,
    products_in,
    training_precision,
)

_PARTS = (*precision._MATMUL, *precision._CONV)


def switches() -> list[object]:
    return [
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.fp32_precision,
        *(part.fp32_precision for part in _PARTS),
    ]


def _matmul(kind: str) -> Callable[[], None]:
    return lambda: torch.set_float32_matmul_precision(kind)


def _convolutions() -> None:
    torch.backends.cudnn.allow_tf32 = False


SET: dict[str, Callable[[], None]] = {
    "as torch starts": lambda: None,
    "highest": _matmul("highest"),
    "high": _matmul("high"),
    "medium": _matmul("medium"),
    "no TF32 in convolutions": _convolutions,
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = precision._switches()
    yield
    precision._put_back(before)


@pytest.fixture
def on_ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's switches can be set without a GPU; only what asks for one is told that there is."""
    monkeypatch.setattr(precision, "_has_tf32", lambda device: device.type == "cuda")
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: False)


@pytest.mark.parametrize("name", SET)
@pytest.mark.parametrize("word", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("fails", [False, True])
def test_switches_are_set_alike_and_put_back(name: str, word: str, fails: bool, on_ampere: None) -> None:
    SET[name]()
    before = switches()
    with suppress(ZeroDivisionError), products_in(word, "cuda") as used:
        assert used == word
        on_gpu = [part.fp32_precision for part in precision._ON_GPU]
        assert on_gpu == ["tf32" if word == "tf32" else "ieee"] * 3
        # torch's old names agree, and can be read
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (word == "tf32")
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert current_precision("cuda") == ("tf32" if word == "tf32" else "fp32")
        if fails:
            raise ZeroDivisionError
    assert switches() == before


def test_switches_of_torch_s_new_names_are_put_back_too() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    before = [part.fp32_precision for part in _PARTS]
    with exactly():
        assert {part.fp32_precision for part in _PARTS} == {"ieee"}
    assert [part.fp32_precision for part in _PARTS] == before


def test_blocks_of_two_threads_that_overlap_leave_nothing_behind(on_ampere: None) -> None:
    before = switches()
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with products_in("tf32", "cuda"):
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with products_in("fp32", "cuda"):
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()
    assert switches() == before


def test_a_block_within_a_block(on_ampere: None) -> None:
    with computing("tf32", "cuda"):
        with exactly():
            assert current_precision("cuda") == "fp32"
        assert current_precision("cuda") == "tf32"
        # what a library's call finds, it keeps, convolutions alike
        with products_in(None, "cuda") as used:
            assert used == "tf32"


@pytest.mark.parametrize(("device", "expected"), [("cpu", "fp32"), ("cuda", "tf32")])
def test_defaults(device: str, expected: str, on_ampere: None) -> None:
    with products_in(precision.default_precision(device), device):
        assert current_precision(device) == training_precision(None, device) == expected


def test_trainings_run_in_bfloat16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)
    assert training_precision(None, "cpu") == "bf16"
    assert training_precision("fp32", "cpu") == "fp32"


@pytest.mark.parametrize(
    ("word", "offered", "message"),
    [
        ("tf32", precision.PRECISIONS, "precision tf32: cpu has none .*expected fp32 there"),
        ("fp16", precision.PRECISIONS, "unknown precision 'fp16': expected one of fp32, tf32, bf16"),
        ("bf16", ("fp32", "tf32"), "precision bf16: not here, .*expected fp32 or tf32"),
    ],
)
def test_words_that_are_refused(word: str, offered: tuple[precision.Precision, ...], message: str) -> None:
    before = switches()
    with pytest.raises(MedcorePruneError, match=message), computing(word, "cpu", offered):
        pass
    assert switches() == before


def test_products_of_samples_are_float32_in_bfloat16() -> None:
    """What hooks saw is of bfloat16; the products of it are those that float32 gives."""
    images, boxes, masks = tiny_batch(2)
    seen = []

    class Spy(Accumulator):
        def _add(self, layer_name: str, batch: object) -> None:
            seen.append((torch.is_autocast_enabled("cpu"), batch.inputs.dtype, *(g.dtype for g in batch.gradients)))
            super()._add(layer_name, batch)

    sums = Spy(tiny_sam(), precision="bf16")
    with torch.autocast("cpu", torch.bfloat16):
        sums.add(images, boxes, masks)
    assert set(seen) == {(False, torch.float32, torch.float32, torch.float32)}
    assert {value.dtype for each in sums.sums.values() for value in each.values()} == {torch.float32}


def test_statistics_of_one_precision_are_not_those_of_another(tmp_path: Path) -> None:
    data = {"a": TinySamples("a", 2)}
    found = {
        word: mp.calibrate(tiny_sam(), data=data, samples=2, cache_dir=tmp_path, precision=word, progress=False)
        for word in (None, "fp32", "bf16")
    }
    assert [part.header.precision for each in found.values() for part in each.parts] == ["fp32", "fp32", "bf16"]
    assert len(list(tmp_path.rglob("fisher*.safetensors"))) == 2
    with pytest.raises(mp.MedcorePruneError):
        mp.Statistics.merge([found["fp32"], found["bf16"]])
