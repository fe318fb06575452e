"""What `medcore-prune export` does: write ONNX files and hold them against PyTorch."""

from dataclasses import asdict
from pathlib import Path

import click

from ..._support.files import refuse_existing, require_writable, write_json_atomic
from ...checkpoints.onnx import PARTS, OnnxReport, export_onnx, require_onnx
from ...data.samples import Sample
from .inputs import ImageOptions, read_model
from .table import Table


def run(model: str, part: str, data: tuple[str, ...], images: int, exporter: str, overwrite: bool, out: Path) -> None:
    """Write each part, prove it, and keep the differences."""
    require_onnx()
    require_writable(out)
    files = {name: out / f"{name}.onnx" for name in (PARTS if part == "both" else (part,))}
    refuse_existing(overwrite, *files.values())
    source = ImageOptions(data)
    loaded = read_model(model)
    samples: list[Sample] = []
    # neither role nor training matter: the numbers of two programs are compared, not masks with the truth
    for each in source.role("all", [], images).values():
        samples += each
    reports = [export_onnx(loaded, place, name, samples=samples, exporter=exporter) for name, place in files.items()]
    write_json_atomic(out / "comparison.json", {"model": model, "parts": [asdict(report) for report in reports]})
    click.echo(_table(reports).text())
    click.echo(f"written: {', '.join(f'{report.part}.onnx' for report in reports)} and comparison.json in {out}")


def _table(reports: list[OnnxReport]) -> Table:
    rows = [
        [report.part, name, f"{value:.1e}", str(report.images), f"{report.file_bytes / 1e6:.1f} MB"]
        for report in reports
        for name, value in report.differences.items()
    ]
    return Table(["part", "output", "largest relative difference", "images", "file"], rows, left=2)
