"""How long a prediction takes on a processor: PyTorch beside ONNX Runtime in float and int8, unpruned beside pruned.

A prediction is one image and one box: the encoder by the runtime, prompt encoder and mask decoder by PyTorch. Every
model under every runtime with every number of threads is a candidate; all candidates take turns in one run
(`latency.interleaved`), and a ratio is the median over rounds of the ratio within a round, so that both sides saw the
same load. A stopped run starts over: half of its rounds would have seen another machine.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
import torch
from torch import nn

from ..._support.errors import MedcorePruneError
from ..._support.files import (
    require_writable,
    together,
    write_json_atomic,
    write_text_atomic,
)
from ..._support.progress import track
from ...checkpoints.onnx.export import export_onnx
from ...checkpoints.onnx.extra import require_onnx, versions
from ...checkpoints.onnx.int8 import Int8Recipe, quantise_onnx, saturates
from ...checkpoints.onnx.model import OnnxModel
from ...commands.work.inputs import read_model
from ...commands.work.outputs.existing import refuse_existing
from ...commands.work.table import Table
from ...data.csv_table import csv_text
from ...evaluation.latency import Inputs, interleaved, noise, percentile
from ...models.families import build_model, encoder_of, geometry_of, kinds
from ...models.protocol import decode, embed
from ...models.switches import attention_of
from ...pruning.level import Level
from ...pruning.planning import make_plan
from ...pruning.surgery import lineage_of, prune
from ...zoo import is_word
from ..report.plots.latency import draw_latency
from ..report.plots.style import THEMES, svg, themed
from .timed import load, machine

PYTORCH = "PyTorch"
FLOAT, INT8 = "ONNX Runtime", "ONNX Runtime int8"
RUNTIMES = (PYTORCH, FLOAT, INT8)
_PAUSE_S = 0.005  # threads that wait for more work by spinning, as OpenMP's do, have gone to sleep after it
_BUSY = 0.5  # a core's share of work that is not this command's
_FILES = ("latency.csv", "latency.json", "latency.svg")


class Candidate(NamedTuple):
    """What takes a turn.

    Attributes:
        model: Its name.
        runtime: A name in `RUNTIMES`.
        threads: Threads of an operator.
    """

    model: str
    runtime: str
    threads: int


class Passes(NamedTuple):
    """Milliseconds of one prediction."""

    encoder_ms: float
    decoder_ms: float

    @property
    def prediction_ms(self) -> float:
        """Of both."""
        return self.encoder_ms + self.decoder_ms


@dataclass(frozen=True)
class Subject:
    """A model, and what runs it: runtime to the file that has its encoder, and to the bytes of that."""

    model: nn.Module
    files: dict[str, Path] = field(default_factory=dict)

    def under(self, runtime: str, threads: int) -> nn.Module:
        """The model as it is, or with its encoder under ONNX Runtime."""
        return self.model if runtime == PYTORCH else OnnxModel(self.model, self.files[runtime], threads)

    def encoder_bytes(self, runtime: str) -> int:
        """Bytes of the encoder's weights, or of its file."""
        if runtime == PYTORCH:
            return sum(value.numel() * value.element_size() for value in encoder_of(self.model).parameters())
        return self.files[runtime].stat().st_size


def run(
    models: tuple[str, ...],
    levels: tuple[Level, ...] | None,
    threads: tuple[int, ...],
    rounds: int,
    warmup: int,
    image_size: int | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Read or build everything, export it, time it, and write table, figure and every round."""
    require_onnx()
    require_writable(out)
    files = [out / name for name in _FILES]
    refuse_existing(overwrite, *files)
    loaded = with_levels({name: _read(name, image_size) for name in models or ("pocket",)}, levels or ())
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        subjects = exported(loaded, Path(folder))
        timed = measure(subjects, threads, rounds, warmup)
        table = tabulate(subjects, timed)
    record: dict[str, Any] = {
        "machine": {**machine(), "saturates": saturates(), "load_before": before, "load_after": load()},
        "versions": {"python": platform.python_version(), **versions()},
        "rounds": rounds,
        "warmup": warmup,
        "attention": {name: _attention(model) for name, model in loaded.items()},
        "int8": vars(Int8Recipe()),
        "rows": table.to_dict("records"),
        "rounds_ms": [[*candidate, [list(passes) for passes in found]] for candidate, found in timed.items()],
    }
    with themed(THEMES["light"]):
        figure = svg(draw_latency(table, f"{record['machine']['processor']}, one image and one box"))
    with together():
        write_text_atomic(files[0], csv_text(table))
        write_json_atomic(files[1], record)
        write_text_atomic(files[2], figure)
    click.echo(f"{shown(table).text()}\n\n{_says(record)}")
    click.echo(f"written: {', '.join(_FILES)} in {out}")


def _read(name: str, image_size: int | None) -> nn.Module:
    """A file, a model of the zoo, or one of random weights, in float32 on the processor."""
    if name in kinds() and not is_word(name) and not Path(name).exists():
        return build_model(name, image_size=image_size)
    return read_model(name, image_size=image_size).float()


def with_levels(models: Mapping[str, nn.Module], levels: Sequence[Level]) -> dict[str, nn.Module]:
    """Put the first model, cut to each level, after it."""
    (first, model), *others = models.items()
    cut = {f"{first} {level}": prune(model, make_plan(model, level)) for level in levels}
    return {first: model, **cut, **dict(others)}


def exported(models: Mapping[str, nn.Module], folder: Path) -> dict[str, Subject]:
    """Write each model's encoder in float and int8, proved as `export_onnx` and `quantise_onnx` do."""
    found = {}
    for number, (name, model) in enumerate(track(models.items(), "exporting", total=len(models))):
        files = {FLOAT: folder / f"{number}.onnx", INT8: folder / f"{number}_int8.onnx"}
        export_onnx(model, files[FLOAT], "encoder")
        quantise_onnx(model, files[FLOAT], files[INT8], progress=False)
        found[name] = Subject(model, files)
    return found


@torch.no_grad()
def measure(
    subjects: Mapping[str, Subject], threads: Sequence[int], rounds: int, warmup: int = 2
) -> dict[Candidate, list[Passes]]:
    """Time every candidate once a round; `rounds` of them after `warmup`."""
    candidates = [Candidate(name, runtime, count) for count in threads for name in subjects for runtime in RUNTIMES]
    inputs = {name: noise(subject.model, 1) for name, subject in subjects.items()}
    runs = {}
    for each in candidates:
        model = subjects[each.model].under(each.runtime, each.threads)
        runs[each] = partial(predicted, model, inputs[each.model], each.threads)
    with _threads_kept():
        return interleaved(runs, rounds, warmup, "timing, rounds")


def predicted(model: nn.Module, inputs: Inputs, threads: int) -> Passes:
    """Time one prediction in its two parts; `threads` are those of PyTorch."""
    torch.set_num_threads(threads)
    time.sleep(_PAUSE_S)
    start = time.perf_counter()
    embedding = embed(model, inputs[0])
    middle = time.perf_counter()
    decode(model, embedding, inputs[1])
    return Passes(1e3 * (middle - start), 1e3 * (time.perf_counter() - middle))


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tabulate(subjects: Mapping[str, Subject], timed: Mapping[Candidate, Sequence[Passes]]) -> pd.DataFrame:
    """A row a candidate.

    `encoder_over_unpruned` and `prediction_over_unpruned` are ratios to the first model under the same runtime,
    `prediction_over_pytorch` to the first model under PyTorch, each with as many threads.
    """
    first = next(iter(subjects))
    rows = []
    for each, found in timed.items():
        model = subjects[each.model].model
        plan = lineage_of(model).plan
        unpruned = timed[each._replace(model=first)]
        pytorch = timed[each._replace(model=first, runtime=PYTORCH)]
        encoder = [passes.encoder_ms for passes in found]
        whole = [passes.prediction_ms for passes in found]
        rows.append(
            {
                "model": each.model,
                "level": plan.level if plan else "",
                "runtime": each.runtime,
                "threads": each.threads,
                "image_size": geometry_of(model).image_size,
                "encoder_params": sum(value.numel() for value in encoder_of(model).parameters()),
                "encoder_bytes": subjects[each.model].encoder_bytes(each.runtime),
                "rounds": len(found),
                "encoder_median_ms": statistics.median(encoder),
                "encoder_p95_ms": percentile(encoder, 95),
                "decoder_median_ms": statistics.median(passes.decoder_ms for passes in found),
                "prediction_median_ms": statistics.median(whole),
                "prediction_p95_ms": percentile(whole, 95),
                "encoder_share": statistics.median(a / b for a, b in zip(encoder, whole, strict=True)),
                "encoder_over_unpruned": _ratio(encoder, [passes.encoder_ms for passes in unpruned]),
                "prediction_over_unpruned": _ratio(whole, [passes.prediction_ms for passes in unpruned]),
                "prediction_over_pytorch": _ratio(whole, [passes.prediction_ms for passes in pytorch]),
            }
        )
    return pd.DataFrame(rows)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def shown(table: pd.DataFrame) -> Table:
    """The table for a terminal."""
    rows = [
        [
            row["model"],
            row["runtime"],
            str(row["threads"]),
            str(row["image_size"]),
            f"{row['encoder_params'] / 1e6:.1f}",
            f"{row['encoder_bytes'] / 1e6:.1f}",
            f"{row['encoder_median_ms']:.1f} ({row['encoder_p95_ms']:.1f})",
            f"{row['prediction_median_ms']:.1f} ({row['prediction_p95_ms']:.1f})",
            f"{row['encoder_share']:.0%}",
            f"{row['encoder_over_unpruned']:.2f}",
            f"{row['prediction_over_unpruned']:.2f}",
            f"{row['prediction_over_pytorch']:.2f}",
        ]
        for row in table.to_dict("records")
    ]
    heads = ["model", "encoder by", "threads", "px", "M params", "MB", "encoder ms", "prediction ms", "share"]
    return Table([*heads, "enc. / unpruned", "pred. / unpruned", "pred. / PyTorch"], rows, left=2)


def _attention(model: nn.Module) -> str:
    """How PyTorch computes attention, or nothing where the family knows one way alone."""
    try:
        return attention_of(model)
    except MedcorePruneError:
        return ""


def _says(record: Mapping[str, Any]) -> str:
    where, used = record["machine"], record["versions"]
    load = where["load_before"]
    lines = [
        f"{where['processor']}, {where['cores']} cores; torch {used['torch']}, onnxruntime {used['onnxruntime']}.",
        f"One image and one box; median (95th percentile) of {record['rounds']} rounds in which all took turns; ratios",
        "are medians of those within a round. The decoder is PyTorch's throughout.",
    ]
    if load is not None and load > _BUSY * where["cores"]:
        lines.append(
            f"Other work was running (load {load} on {where['cores']} cores): times are too long, above all with as "
            "many threads as cores. Run it again on a machine at rest."
        )
    return "\n".join(lines)
