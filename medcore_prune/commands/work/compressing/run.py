"""The steps of a compression, one after the other, each of which leaves its files and is not done twice."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from torch import nn

from ...._support.errors import WriteError
from ...._support.files import (
    atomic_write,
    exclusive,
    read_json_file,
    require_writable,
    together,
    write_json_atomic,
    write_text_atomic,
)
from ....checkpoints.onnx.folder import README, SEGMENT
from ....data.folders.reading import Reading
from ....data.samples import subset_hash
from ....data.splits.beside import split_file
from ....data.splits.split import FRACTIONS, Split
from ....models.fingerprint import model_hash
from ....models.precision import Precision
from ....models.tiny_vit.stems import kept_stems
from ....pruning.level import Level
from ....pruning.surgery import lineage_of
from ....pruning.target import Target
from ....training.settings import AdaptSettings
from .. import adapt as adaptation
from .. import export as exporting
from .. import recover as recovery
from ..card import card_file
from ..inputs import ImageOptions, read_model
from ..memory import images_at_a_time
from ..planning import PruneSettings
from ..precision import in_precision
from .candidates import Candidates
from .report import Final, write_report

_METHOD = "residual"
"""Which units go: it reads no labels and no reference, and its least squares are those of the correction."""
_MOST_IMAGES = 8
_EXPORTED = ("encoder", "decoder")
"""Parts that a mask takes."""
_COMPARED = 3
"""Images that PyTorch and ONNX Runtime are compared on."""
_LONGEST_BETWEEN_LOOKS = 25
FORMAT = "medcore_prune.compress/1"
_SUFFIXES = (
    *(".pth", ".safetensors", ".json", ".split.json", ".state.pt", ".card.md"),
    *(".loss.csv", ".loss.png", ".validation.csv"),
)
"""Of the models of a compression, and of what lies beside them."""


@in_precision("fp32", "tf32")
def run(
    model: str,
    out: Path,
    keep_contour: float,
    level: Level | None,
    target: Target | None,
    adapt: int,
    recover: int,
    onnx: bool,
    resume: bool,
    **given: Any,
) -> None:
    """Adapt if asked, choose how much goes, cut and correct, recover, export, compare on test images, report."""
    require_writable(out)
    goal = level or target
    steps = Steps(out=out, **given)
    asked = {
        "format": FORMAT,
        "model": model_hash(read_model(model)),
        "goal": str(goal) if goal else f"keep contour {keep_contour:g}",
        **{"adapt": adapt, "recover": recover},
        **steps.asked(),
    }
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out / "compress.json"):
        _begin(out, asked, resume)
        place = steps.adapted(model, adapt)
        whole, roles = read_model(place, device=steps.device), steps.source.roles(place, {})
        with kept_stems():
            small = steps.small(whole, roles, goal, keep_contour)
            final = steps.recovered(small, place, roles, recover)
            made = steps.exported(final) if onnx else []
            left = read_model(str(final), device=steps.device)
            comparison = Final(whole, left, roles, _MOST_IMAGES)
            table = comparison.measured(made)
        write_text_atomic(card_file(final), comparison.card(final))
        write_report(out, asked, Path(place), final, table, comparison)
    click.echo("\n".join([table.text(), *comparison.said]))
    click.echo(f"written: {final.name}{', onnx/' if made else ''}, {card_file(final).name} and report.md in {out}")


def _begin(out: Path, asked: dict[str, Any], resume: bool) -> None:
    """Say in the folder what it is of; one of another compression is refused, or with `resume` off made anew."""
    place = out / "compress.json"
    stored = _asked(place)
    if stored is None and any(not path.name.startswith(".") for path in out.iterdir()):
        raise WriteError(f"{out} holds other files: choose an empty or a new folder")
    if stored is not None and resume:
        if stored != asked:
            other = [name for name, value in asked.items() if stored.get(name) != value]
            raise WriteError(
                f"{out} is of another compression (other {', '.join(other)}): choose another folder, or start over"
            )
        return
    if stored is not None:
        _remove_written(out)
    write_json_atomic(place, {"asked": asked})


def _asked(place: Path) -> dict[str, Any] | None:
    """What the compression was asked for that a folder is of; None where no compression made it."""
    try:
        found = read_json_file(place) if place.is_file() else None
    except (OSError, ValueError):
        return None
    asked = found.get("asked") if isinstance(found, dict) else None
    return asked if isinstance(asked, dict) and asked.get("format") == FORMAT else None


_WRITTEN = {
    "": [f"{stem}{suffix}" for stem in ("adapted", "small", "recovered") for suffix in _SUFFIXES],
    "candidates": ["*.safetensors", "*.validation.csv"],
    "onnx": ["encoder.onnx", "decoder.onnx", "encoder_int8.onnx", "comparison.json", README, SEGMENT],
}
"""Files that a compression leaves, by the folder within its own."""


def _remove_written(out: Path) -> None:
    """Remove what an earlier compression wrote, and the folders that are empty then; what others put there stays."""
    for name, patterns in _WRITTEN.items():
        for path in [path for pattern in patterns for path in (out / name).glob(pattern)]:
            path.unlink()
        if name:
            with suppress(OSError):
                (out / name).rmdir()


@dataclass(frozen=True)
class Steps:
    """The steps, each of which gives the file that it left, made now or before; fields are those of the command."""

    out: Path
    data: tuple[str, ...]
    reading: Reading
    split_seed: int
    device: str
    precision: Precision
    seed: int
    images: int
    batch_size: int

    @cached_property
    def source(self) -> ImageOptions:
        """Where the images come from."""
        return ImageOptions(self.data, self.split_seed, self.reading)

    @property
    def _read(self) -> dict[str, Any]:
        """What the other commands take of it to read the same images."""
        return {"data": self.data, "split_seed": self.split_seed, "reading": self.reading}

    @property
    def _trained(self) -> dict[str, Any]:
        """What both trainings take of it."""
        alike = {"device": self.device, "batch_size": self.batch_size, "seed": self.seed}
        return {**self._read, **alike, "resume": True, "overwrite": False}

    def asked(self) -> dict[str, Any]:
        """What of it the results depend on, as JSON."""
        return {
            "sets": {
                name: {"images": len(part), "sha256": subset_hash(part)} for name, part in self.source.sets().items()
            },
            **{"images": self.images, "batch_size": self.batch_size, "seed": self.seed, "split_seed": self.split_seed},
            "precision": self.precision,
            "reading": [str(each) for each in self.reading],
        }

    def adapted(self, model: str, steps: int) -> str:
        """Fine-tune the model; without steps it is as it was given."""
        place = self.out / "adapted.pth"
        if steps and not place.is_file():
            rate = AdaptSettings().learning_rate
            trained = {"steps": steps, "learning_rate": rate, "average": None, **self._trained}
            adaptation.run(model=model, out=place, image_size=None, fractions=FRACTIONS, **trained)
        return str(place) if steps else model

    def small(self, whole: nn.Module, roles: Split, goal: Level | Target | None, loss: float) -> Path:
        """Choose, cut and correct; the chosen candidate becomes the small model, and the others stay beside it."""
        place, folder = self.out / "small.safetensors", self.out / "candidates"
        if place.is_file():
            return place
        folder.mkdir(exist_ok=True)
        settings = PruneSettings(
            method=_METHOD, calibration=self.images, correct=self.images, seed=self.seed, protect=0
        )
        candidates = Candidates(whole, roles, settings, folder, images_at_a_time(whole, _MOST_IMAGES))
        chosen = candidates.smallest_within(loss) if goal is None else candidates.of(goal)
        click.echo(f"taken: {chosen.name}")
        with together():
            roles.save(split_file(place))
            with atomic_write(place) as temporary:
                shutil.copyfile(folder / f"{chosen.name}.safetensors", temporary)
        return place

    def recovered(self, small: Path, whole: str, roles: Split, steps: int) -> Path:
        """Train what is left, as far as validation images want it; where that gained nothing, it is as it was."""
        place = self.out / "recovered.safetensors"
        if not steps:
            return small
        if not place.is_file():
            recovery.run(
                model=str(small),
                teacher=whole,
                out=place,
                steps=steps,
                learning_rate=None,
                validate_every=max(1, min(_LONGEST_BETWEEN_LOOKS, steps // 4)),
                patience=0,
                average=any(map(len, roles.validation.values())),
                **self._trained,
            )
        history = lineage_of(read_model(str(place))).provenance["recovered"]
        averages = history.get("averages")
        return place if (averages[0]["share"] if averages else history["best_step"]) else small

    def exported(self, final: Path) -> list[Path]:
        """Write what makes masks under ONNX Runtime, the encoder in int8 too, where the extra is installed."""
        folder = self.out / "onnx"
        if find_spec("onnxruntime") is None or find_spec("onnx") is None:
            click.echo('note: no ONNX files: they need the extra onnx (pip install "medcore-prune[onnx]")', err=True)
            return []
        if not (folder / "comparison.json").is_file():
            exporting.run(
                str(final),
                _EXPORTED,
                int8=True,
                images=_COMPARED,
                exporter="torchscript",
                overwrite=True,
                out=folder,
                **self._read,
            )
        return [folder / f"{name}.onnx" for name in (*_EXPORTED, "encoder_int8")]
