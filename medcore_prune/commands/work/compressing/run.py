"""The steps of a compression, one after the other, each of which leaves its files and is not done twice."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from torch import nn

from ...._support.devices import require_device
from ...._support.errors import WriteError
from ...._support.files import atomic_write, exclusive, read_json_file, require_writable, together, write_json_atomic
from ....data.folders.reading import Reading
from ....data.splits.beside import split_file
from ....data.splits.split import Split
from ....models.fingerprint import model_hash
from ....models.tiny_vit.stems import kept_stems
from ....pruning.level import Level
from ....pruning.surgery import lineage_of
from ....pruning.target import Target
from ....training.settings import AdaptSettings, RecoverySettings
from .. import adapt as adaptation
from .. import export as exporting
from .. import recover as recovery
from ..inputs import ImageOptions, data_record, read_model
from ..memory import images_at_a_time
from ..planning import PruneSettings
from .candidates import Candidates
from .report import Final, write_report

_METHOD = "residual"
"""Which units go: it reads no labels and no reference, and its least squares are those of the correction."""
_MOST_IMAGES = 8
FORMAT = "medcore_prune.compress/1"


def run(
    model: str,
    data: tuple[str, ...],
    keep_contour: float,
    level: Level | None,
    target: Target | None,
    adapt: int,
    recover: int,
    device: str,
    out: Path,
    images: int,
    batch_size: int,
    onnx: bool,
    seed: int,
    split_seed: int,
    reading: Reading,
    resume: bool,
) -> None:
    """Adapt if asked, choose how much goes, cut and correct, recover, export, compare on test images, report."""
    require_device(device)
    require_writable(out)
    goal = level or target
    source = ImageOptions(data, split_seed, reading)
    asked = {
        "format": FORMAT,
        "model": model_hash(read_model(model)),
        "sets": data_record_of(source),
        "goal": str(goal) if goal else f"keep contour {keep_contour:g}",
        **{"adapt": adapt, "recover": recover, "images": images, "batch_size": batch_size},
        **{"seed": seed, "split_seed": split_seed, "reading": [str(each) for each in reading]},
    }
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out / "compress.json"):
        _begin(out, asked, resume)
        whole = _adapted(model, data, out, adapt, batch_size, device, seed, split_seed, reading)
        loaded = read_model(whole, device=device)
        roles = source.roles(whole, {})
        settings = PruneSettings(method=_METHOD, calibration=images, correct=images, seed=seed, protect=0)
        with kept_stems():
            small = _small(loaded, roles, settings, goal, keep_contour, out)
            final = _recovered(small, whole, data, out, recover, batch_size, device, seed, split_seed, reading)
            made = _exported(final, data, out, split_seed, reading) if onnx else []
            table = Final(loaded, read_model(str(final), device=device), roles, _MOST_IMAGES).measured(made)
        write_report(out, asked, Path(whole), final, table)
    click.echo(table.text())
    click.echo(f"written: {final.name}{', onnx/' if made else ''} and report.md in {out}")


def data_record_of(source: ImageOptions) -> dict[str, Any]:
    """Which images all sets hold."""
    sets = source.sets()
    return data_record(Split(sets, {}, {}, 0, (1.0, 0.0, 0.0)))["train"]


def _begin(out: Path, asked: dict[str, Any], resume: bool) -> None:
    """Say in the folder what it is of; one of another compression is refused, or with `resume` off made anew."""
    place = out / "compress.json"
    if place.is_file() and resume:
        stored = read_json_file(place)
        if stored.get("asked") != asked:
            other = [name for name, value in asked.items() if stored.get("asked", {}).get(name) != value]
            raise WriteError(
                f"{out} is of another compression (other {', '.join(other)}): choose another folder, or start over"
            )
        return
    if place.is_file():
        for name in ("candidates", "onnx"):
            shutil.rmtree(out / name, ignore_errors=True)
        for path in (*out.glob("adapted.*"), *out.glob("small.*"), *out.glob("recovered.*")):
            path.unlink()
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        raise WriteError(f"{out} holds other files: choose an empty or a new folder")
    write_json_atomic(place, {"asked": asked})


def _adapted(
    model: str,
    data: tuple[str, ...],
    out: Path,
    steps: int,
    batch_size: int,
    device: str,
    seed: int,
    split_seed: int,
    reading: Reading,
) -> str:
    if not steps:
        return model
    place = out / "adapted.pth"
    if not place.is_file():
        given = {"batch_size": batch_size, "learning_rate": AdaptSettings().learning_rate, "seed": seed}
        adaptation.run(
            model,
            data,
            place,
            image_size=None,
            fractions=(0.7, 0.1, 0.2),
            split_seed=split_seed,
            reading=reading,
            device=device,
            resume=True,
            overwrite=False,
            steps=steps,
            **given,
        )
    return str(place)


def _small(
    whole: nn.Module, roles: Split, settings: PruneSettings, goal: Level | Target | None, loss: float, out: Path
) -> Path:
    """Choose, cut and correct; the chosen candidate becomes the small model, and the others stay beside it."""
    place, folder = out / "small.safetensors", out / "candidates"
    if place.is_file():
        return place
    folder.mkdir(exist_ok=True)
    candidates = Candidates(whole, roles, settings, folder, images_at_a_time(whole, _MOST_IMAGES))
    chosen = candidates.smallest_within(loss) if goal is None else candidates.of(goal)
    click.echo(f"taken: {chosen.name}")
    with together():
        roles.save(split_file(place))
        with atomic_write(place) as temporary:
            shutil.copyfile(folder / f"{chosen.name}.safetensors", temporary)
    return place


def _recovered(
    small: Path,
    whole: str,
    data: tuple[str, ...],
    out: Path,
    steps: int,
    batch_size: int,
    device: str,
    seed: int,
    split_seed: int,
    reading: Reading,
) -> Path:
    """Train what is left; where no step gained anything, the small model is the result."""
    place = out / "recovered.safetensors"
    if not steps:
        return small
    if not place.is_file():
        given = {"batch_size": batch_size, "learning_rate": RecoverySettings().learning_rate, "seed": seed}
        recovery.run(
            str(small),
            whole,
            data,
            split_seed=split_seed,
            reading=reading,
            device=device,
            resume=True,
            overwrite=False,
            out=place,
            steps=steps,
            validate_every=max(1, min(25, steps // 4)),
            patience=0,
            **given,
        )
    history = lineage_of(read_model(str(place))).provenance["recovered"]
    return place if history["best_step"] else small


def _exported(final: Path, data: tuple[str, ...], out: Path, split_seed: int, reading: Reading) -> list[Path]:
    """Write the encoder as ONNX in float and int8, where the extra is installed."""
    folder = out / "onnx"
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        click.echo('note: no ONNX files: they need the extra onnx (pip install "medcore-prune[onnx]")', err=True)
        return []
    if not (folder / "comparison.json").is_file():
        exporting.run(
            str(final),
            "encoder",
            int8=True,
            data=data,
            split_seed=split_seed,
            reading=reading,
            images=3,
            exporter="torchscript",
            overwrite=True,
            out=folder,
        )
    return [folder / "encoder.onnx", folder / "encoder_int8.onnx"]
