"""What `medcore-prune export` does: write ONNX files, hold them against PyTorch, and judge int8 by the contour."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.files import require_writable, write_json_atomic
from ..._support.journal import Journal
from ...checkpoints.onnx.export import OnnxReport, export_onnx
from ...checkpoints.onnx.extra import require_onnx
from ...checkpoints.onnx.folder import README, SEGMENT, refuse_others, write_beside
from ...checkpoints.onnx.int8 import Int8Report, quantise_onnx
from ...data.folders.reading import Reading
from ...data.samples import Sample, SampleSet, image_hash, subset_hash
from ...evaluation.intervals import INDICATIVE_BELOW, verdict
from ...evaluation.metrics import HIGHER_IS_BETTER, TITLES
from .inputs import ImageOptions, named_model, phantoms_tell, read_model, say_notice
from .outputs.existing import Results
from .table import Table

_ENCODER, _INT8 = "encoder", "encoder_int8"


def run(
    model: str | None,
    parts: Sequence[str],
    int8: bool,
    data: tuple[str, ...],
    split_seed: int,
    reading: Reading,
    images: int,
    exporter: str,
    overwrite: bool,
    out: Path,
) -> None:
    """Write each part, prove it, and keep the differences; then the encoder in int8, and what that does to masks."""
    if int8 and _ENCODER not in parts:
        raise click.UsageError("--int8 is of the encoder: give --part encoder or all")
    require_onnx()
    require_writable(out)
    refuse_others(out)
    files = {name: out / f"{name}.onnx" for name in parts}
    int8_file = out / f"{_INT8}.onnx"
    comparison = out / "comparison.json"
    written = [*files.values(), *([int8_file] if int8 else [])]
    # parts are exported one by one too, each time with a comparison of those
    results = Results(Journal(out / ".export.run", overwrite), written, overwrite, overwrite, comparison)
    source = ImageOptions(data, split_seed, reading)
    model = named_model(model, source, "export")
    loaded = read_model(model)
    # before the work: what the model was trained on is refused
    validation = _validation(source, model, loaded) if int8 else {}
    samples: list[Sample] = []
    # neither role nor training matter: the numbers of two programs are compared, not masks with the truth
    for each in source.role("all", [], images).values():
        samples += each
    images_of = {"compared": [image_hash(each.image) for each in samples]}
    images_of |= {name: [subset_hash(part)] for name, part in validation.items()}
    if results.done(command="export", read=[model], images=images_of, settings=[parts, int8, exporter]):
        return
    with results.writing():
        reports = [
            export_onnx(loaded, place, name, samples=samples, exporter=exporter) for name, place in files.items()
        ]
        record: dict[str, Any] = {"model": model, "parts": [asdict(report) for report in reports]}
        tables = [_table(reports).text()]
        if int8:
            report = quantise_onnx(loaded, files[_ENCODER], int8_file, samples=samples, validation=validation)
            record["int8"] = asdict(report)
            tables += _int8_tables(report)
        write_beside(out, parts[0])
        # last: where it is, everything is
        write_json_atomic(comparison, record)
    click.echo("\n\n".join(tables))
    click.echo(f"written: {', '.join(place.name for place in written)} and {comparison.name} in {out}")
    click.echo(f"for whoever has no medcore-prune: {out / README} and {SEGMENT}")
    if validation:
        say_notice(source)


def _validation(source: ImageOptions, model: str, loaded: nn.Module) -> Mapping[str, SampleSet]:
    """Images that masks are judged on; none where there are only drawn ones, which tell this model nothing."""
    if source.is_phantom and not phantoms_tell(loaded):
        click.echo("int8: masks are not compared; give --data NAME=DIR to see what it does to contours", err=True)
        return {}
    return source.role("validation", [model], None)


def _table(reports: list[OnnxReport]) -> Table:
    rows = [
        [report.part, name, f"{value:.1e}", str(report.images), f"{report.file_bytes / 1e6:.1f} MB"]
        for report in reports
        for name, value in report.differences.items()
    ]
    return Table(["part", "output", "largest relative difference", "images", "file"], rows, left=2)


def _int8_tables(report: Int8Report) -> list[str]:
    """What was quantised and how far the embedding moved, then the metrics where masks were judged."""
    layers = f"{report.linears} linear" + (f", {report.convolutions} convolutions" if report.convolutions else "")
    sizes = f"{report.int8_bytes / 1e6:.1f} MB of {report.float_bytes / 1e6:.1f}"
    row = [_INT8, layers, f"{report.relative_rms:.1e}", str(report.compared), sizes]
    parts = [Table(["part", "layers in int8", "rms difference to float", "images", "file"], [row], left=2).text()]
    if not report.metrics:
        return parts
    rows = []
    for name, found in report.metrics.items():
        form = ".2f" if name == "hd95_px" else ".4f"
        numbers = [f"{found.float_value:{form}}", f"{found.int8_value:{form}}", f"{found.difference:+{form}}"]
        said = verdict(found.low, found.high, report.groups, higher_is_better=HIGHER_IS_BETTER[name])
        rows.append([TITLES[name], *numbers, f"{found.low:+{form}} to {found.high:+{form}}", said])
    parts.append(Table(["validation images", "float", "int8", "difference", "95 % interval", ""], rows).text())
    counts = ", ".join(f"{count} of {name}" for name, count in report.images.items())
    parts.append(
        f"{counts}; paired intervals, bootstrap over groups of images, not corrected for {len(rows)} comparisons; no "
        f"verdict with fewer than {INDICATIVE_BELOW} groups in a set."
    )
    return parts
