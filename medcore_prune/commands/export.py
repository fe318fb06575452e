"""`medcore-prune export`: a model as ONNX, proved under ONNX Runtime."""

from dataclasses import asdict
from pathlib import Path

import click

from .._support.files import refuse_existing, require_writable, write_json_atomic
from ..checkpoints.onnx import EXPORTERS, PARTS, OnnxReport, export_onnx, require_onnx
from ..data.samples import Sample
from .inputs import POCKET, ImageOptions, ModelOptions
from .options import FOLDER, MODEL, MODEL_FILE, Whole, data_options, kind_options, overwrite_option
from .table import Table


@click.command(name="export")
@click.argument("model", default=POCKET, type=MODEL, metavar=f"[{MODEL_FILE}]")
@click.option(
    "--part",
    type=click.Choice([*PARTS, "both"]),
    default="both",
    show_default=True,
    help="encoder.onnx, whole.onnx (encoder, box prompt and mask decoder), or both.",
)
@kind_options
@data_options
@click.option(
    "--images",
    type=Whole(2),
    default=3,
    show_default=True,
    metavar="N",
    help="Images of each set to compare PyTorch and ONNX Runtime on.",
)
@click.option(
    "--exporter",
    type=click.Choice(list(EXPORTERS)),
    default="torchscript",
    show_default=True,
    help="PyTorch's older exporter, or its newer and much slower one; both gave the same numbers.",
)
@overwrite_option
@click.option("--out", type=FOLDER, default=Path("onnx"), show_default=True, help="Folder of the files.")
def command(
    model: str,
    part: str,
    kind: str,
    image_size: int | None,
    data: tuple[str, ...],
    boxes: tuple[str, ...],
    layout: str,
    split_seed: int,
    images: int,
    exporter: str,
    overwrite: bool,
    out: Path,
) -> None:
    """Write a model as ONNX, and compare it with PyTorch under ONNX Runtime.

    encoder.onnx takes an image and gives its embedding; whole.onnx takes an
    image and a box and gives logits and probabilities at low resolution. Any
    number of images at a time; the input side is the model's. comparison.json
    beside them holds the differences.

    Needs the extra onnx: pip install "medcore-prune[onnx]"

    \b
    Example:
      medcore-prune export small.safetensors --part whole --out onnx
    """
    require_onnx()
    require_writable(out)
    files = {name: out / f"{name}.onnx" for name in (PARTS if part == "both" else (part,))}
    refuse_existing(overwrite, *files.values())
    source = ImageOptions(data, boxes, layout, split_seed)
    loaded = ModelOptions(kind, image_size).read(model)
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
