"""`medcore-bench latency`: what takes turns, in which order, and what the table says of it."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sam
from torch import nn

import medcore_prune as mp
from medcore_prune._support.devices import processor
from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.speed import latency
from medcore_prune.benchmarks.speed.latency import (
    FLOAT,
    INT8,
    PYTORCH,
    RUNTIMES,
    Candidate,
    Passes,
    Subject,
    measure,
    predicted,
    tabulate,
    with_levels,
)
from medcore_prune.checkpoints.onnx import extra
from medcore_prune.models.families import encoder_of
from medcore_prune.models.protocol import embed
from medcore_prune.pruning.level import Level

pytest.importorskip("onnxruntime")

COLUMNS = (
    "model,level,runtime,threads,image_size,encoder_params,encoder_bytes,rounds,encoder_median_ms,encoder_p95_ms,"
    "decoder_median_ms,prediction_median_ms,prediction_p95_ms,encoder_share,encoder_over_unpruned,"
    "prediction_over_unpruned,prediction_over_pytorch"
)
ENCODER = "encoder_median_ms"


def subjects(tmp_path: Path) -> dict[str, Subject]:
    model = tiny_sam()
    files = {runtime: tmp_path / f"{place}.onnx" for place, runtime in enumerate((FLOAT, INT8))}
    for size, file in enumerate(files.values()):
        file.write_bytes(b"x" * (size + 1))
    return {"whole": Subject(model, files), "small": Subject(mp.prune(model, mp.make_plan(model, "h50_m70")), files)}


def test_candidates_take_turns_and_threads_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Subject, "under", lambda _self, runtime, threads: (runtime, threads))
    monkeypatch.setattr(latency, "predicted", lambda model, _inputs, threads: ran.append((*model, threads)))
    before = torch.get_num_threads()
    found = measure(subjects(tmp_path), (1, 2), rounds=2, warmup=1)
    once = [(runtime, count, count) for count in (1, 2) for _ in range(2) for runtime in RUNTIMES]
    assert ran == once * 3
    names = [Candidate(name, runtime, count) for count in (1, 2) for name in ("whole", "small") for runtime in RUNTIMES]
    assert list(found) == names
    assert all(len(rounds) == 2 for rounds in found.values())
    assert torch.get_num_threads() == before


def test_a_prediction_is_timed_in_its_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def slow(seconds: float, *arguments: Any) -> str:
        given.append((torch.get_num_threads(), *arguments[1:]))
        time.sleep(seconds)
        return "embedding"

    monkeypatch.setattr(latency, "embed", lambda *arguments: slow(0.03, *arguments))
    monkeypatch.setattr(latency, "decode", lambda *arguments: slow(0.06, *arguments))
    before = torch.get_num_threads()
    with latency._threads_kept():
        found = predicted(nn.Identity(), ("image", "box"), 2)  # type: ignore[arg-type]
    assert given == [(2, "image"), (2, "embedding", "box")]
    assert found.encoder_ms >= 30
    assert found.decoder_ms >= 60
    assert found.prediction_ms == found.encoder_ms + found.decoder_ms
    assert torch.get_num_threads() == before


def test_the_table_restated(tmp_path: Path) -> None:
    # the second round has twice the load, for all alike
    timed = {
        Candidate("whole", PYTORCH, 1): [Passes(80, 20), Passes(160, 40)],
        Candidate("whole", FLOAT, 1): [Passes(40, 20), Passes(80, 40)],
        Candidate("whole", INT8, 1): [Passes(20, 20), Passes(40, 40)],
        Candidate("small", PYTORCH, 1): [Passes(30, 20), Passes(60, 40)],
        Candidate("small", FLOAT, 1): [Passes(20, 20), Passes(40, 40)],
        Candidate("small", INT8, 1): [Passes(5, 20), Passes(10, 40)],
    }
    given = subjects(tmp_path)
    table = tabulate(given, timed).set_index(["model", "runtime"])
    last = table.loc[("small", INT8)]
    assert (last["encoder_median_ms"], last["decoder_median_ms"], last["prediction_median_ms"]) == (7.5, 30, 37.5)
    assert (last["encoder_p95_ms"], last["prediction_p95_ms"]) == pytest.approx((9.75, 48.75))
    assert last["encoder_share"] == pytest.approx(0.2)
    assert last["encoder_over_unpruned"] == pytest.approx(5 / 20)
    assert last["prediction_over_unpruned"] == pytest.approx(25 / 40)
    assert last["prediction_over_pytorch"] == pytest.approx(25 / 100)
    assert (last["level"], last["rounds"], last["threads"], last["image_size"]) == ("h50_m70", 2, 1, 48)
    assert list(table["encoder_bytes"].loc["small"]) == [
        4 * sum(value.numel() for value in encoder_of(given["small"].model).parameters()),
        1,
        2,
    ]
    assert last["encoder_params"] < table.loc[("whole", INT8)]["encoder_params"]
    assert (table.loc["whole"]["encoder_over_unpruned"] == 1).all()
    assert table.loc[("whole", FLOAT)]["prediction_over_pytorch"] == pytest.approx(0.6)


def test_ratios_are_those_within_a_round(tmp_path: Path) -> None:
    # medians alone would say 60 / 50: the load was another in each round
    timed = {
        Candidate("whole", PYTORCH, 1): [Passes(10, 0), Passes(50, 0), Passes(100, 0)],
        Candidate("small", PYTORCH, 1): [Passes(5, 0), Passes(60, 0), Passes(50, 0)],
    }
    timed |= {each._replace(runtime=runtime): times for each, times in list(timed.items()) for runtime in (FLOAT, INT8)}
    table = tabulate(subjects(tmp_path), timed).set_index(["model", "runtime"])
    assert table.loc[("small", PYTORCH)]["encoder_over_unpruned"] == 0.5


def test_each_runtime_runs_what_it_says(tmp_path: Path) -> None:
    model = tiny_sam()
    subject = latency.exported({"tiny": model}, tmp_path)["tiny"]
    images = torch.rand((1, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = embed(model, images)
        got = {runtime: embed(subject.under(runtime, 1), images) for runtime in RUNTIMES}
    far = {runtime: float((value - expected).norm() / expected.norm()) for runtime, value in got.items()}
    assert far[PYTORCH] == 0
    assert 0 < far[FLOAT] < 1e-5
    assert 1e-4 < far[INT8] < 0.1
    assert subject.encoder_bytes(INT8) < subject.encoder_bytes(FLOAT)


def test_levels_cut_the_first_model() -> None:
    models = with_levels({"a": tiny_sam(), "b": tiny_sam(1)}, [Level.parse("h50_m70"), Level.parse("h75_m90")])
    assert list(models) == ["a", "a h50_m70", "a h75_m90", "b"]
    sizes = [sum(value.numel() for value in encoder_of(model).parameters()) for model in models.values()]
    assert sizes[0] == sizes[3] > sizes[1] > sizes[2]


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    mp.save(tiny_sam(), "tiny.safetensors")
    words = "latency tiny.safetensors --levels h50_m70 --rounds 2 --warmup 0 --threads 1 --out out"
    return CliRunner().invoke(cli, words.split(), catch_exceptions=False)


def test_the_command_end_to_end(done: Any) -> None:
    assert done.exit_code == 0, done.output
    table = pd.read_csv("out/latency.csv")
    assert ",".join(table.columns) == COLUMNS
    names = ["tiny.safetensors", "tiny.safetensors h50_m70"]
    assert list(zip(table["model"], table["runtime"], strict=True)) == [(a, b) for a in names for b in RUNTIMES]
    assert (table[[name for name in table if name.endswith("_ms")]] > 0).all(axis=None)
    assert table["encoder_share"].between(0, 1).all()
    assert set(table["threads"]) == {1}
    record = json.loads(Path("out/latency.json").read_text())
    assert [len(rounds) for *_, rounds in record["rounds_ms"]] == [2] * 6
    assert record["rows"][0][ENCODER] == pytest.approx(sum(a for a, _ in record["rounds_ms"][0][-1]) / 2)
    assert record["machine"]["processor"] == processor()
    assert record["versions"]["onnxruntime"]
    assert record["attention"] == dict.fromkeys(names, "segment-anything")
    assert record["int8"]["per_channel"]
    for words in (processor(), "torch ", "onnxruntime ", "2 rounds", "pred. / PyTorch", *names):
        assert words in done.stdout
    figure = Path("out/latency.svg").read_text()
    assert figure.startswith("<?xml")


def test_results_that_are_there_are_kept(done: Any) -> None:
    words = "latency tiny.safetensors --rounds 1 --out out"
    result = CliRunner().invoke(cli, words.split())
    assert "already there: out/latency.csv" in str(result.exception)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli, ["latency"])
    assert 'pip install "medcore-prune[onnx]"' in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", ["0", "1,x", "", "1,,2"])
def test_threads_are_whole_numbers(threads: str) -> None:
    assert CliRunner().invoke(cli, ["latency", "--threads", threads]).exit_code == 2


def test_other_work_is_said() -> None:
    record = {
        "machine": {"processor": "P", "cores": 2, "load_before": 3.0, "load_after": 1.0},
        "versions": {"torch": "1", "onnxruntime": "2"},
        "rounds": 5,
    }
    assert "load 3.0 on 2 cores" in latency._says(record)
    record["machine"]["load_before"] = None  # type: ignore[index]
    assert "load" not in latency._says(record)
