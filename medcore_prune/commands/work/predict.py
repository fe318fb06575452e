"""What `medcore-prune predict` does: pair images with boxes, segment, write masks and pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from ..._support.errors import DataError
from ..._support.files import require_writable, together
from ..._support.journal import Journal
from ..._support.progress import track
from ..._support.temporary import remove_unfinished
from ..._support.words import few_of
from ...data.folders.names import composed, stem_of
from ...data.images import is_image_file, read_image
from ...data.prompts import Box, all_boxes_from_csv
from ...models.fingerprint import model_hash
from ...models.precision import Precision
from ...models.predictor import Predictor
from .inputs import read_model
from .outputs import areas
from .outputs.existing import refuse_existing, run_key
from .outputs.masks import FORMATS, Segmented, write_picture
from .outputs.overlay import overlay
from .precision import in_precision

_FEWEST_PX = 2


@dataclass(frozen=True)
class Job:
    """One image to segment, an object a box in its pixels; `name` is of the files that are written."""

    name: str
    image: Path
    boxes: tuple[Box, ...]

    def masks(self, way: "_Way") -> list[Path]:
        """The files of the masks, in the boxes' order."""
        return [way.out / name for name in FORMATS[way.form].files(self.name, len(self.boxes))]

    def files(self, way: "_Way") -> list[Path]:
        """Those, then the overlay, where one is drawn."""
        return [*self.masks(way), *([way.out / f"{self.name}_overlay.png"] if way.drawn else [])]


class _Way(NamedTuple):
    """What is written, and where."""

    out: Path
    form: str
    drawn: bool


@in_precision()
def run(
    model: str,
    image: Path,
    box: tuple[Box, ...],
    boxes: Path | None,
    device: str,
    form: str,
    precision: Precision,
    drawn: bool,
    overwrite: bool,
    out: Path,
) -> None:
    """Check images and boxes, then segment them one after the other."""
    require_writable(out)
    areas.require_own(out)
    jobs, without = _jobs(image, box, boxes, out)
    way = _Way(out, form, drawn)
    FORMATS[form].require(*(job.image for job in jobs))
    _refuse_replacing(jobs, way)
    journal = Journal(out / ".predict.run", overwrite)
    remove_unfinished(out)
    shared = run_key("predict", (model,), drawn=drawn, device=device, precision=precision, form=form)
    keys = {job: run_key(shared, (job.image,), boxes=job.boxes) for job in jobs}
    todo = [job for job in jobs if overwrite or not journal.has(keys[job], job.files(way))]
    refuse_existing(
        overwrite,
        *(file for job in todo for file in job.files(way) if not journal.owns(file, keys[job])),
    )
    if done := len(jobs) - len(todo):
        click.echo(f"done before, by the same model with the same boxes: {done} of {_counted(len(jobs), 'image')}")
    if not todo:
        _measure(jobs, way)
        return
    loaded = read_model(model, device=device)
    predictor, by = Predictor(loaded), (Path(model).name, model_hash(loaded))
    for job in track(todo, "predicting", total=len(jobs), done=done):
        with journal.writing(keys[job], job.files(way)), together():
            _segment(predictor, job, way, by)
    _measure([job for job in jobs if job not in todo], way, anew=todo)
    masks = sum(len(job.boxes) for job in todo)
    bare = f"; {_counted(without, 'image')} without a box left out" if without else ""
    click.echo(
        f"written: {_counted(masks, 'mask')} of {_counted(len(todo), 'image')} in {out}, with {areas.NAME}{bare}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _jobs(image: Path, box: Sequence[Box], boxes: Path | None, out: Path) -> tuple[list[Job], int]:
    """Pair images with boxes, and check all of it before any is segmented; also return how many have no box."""
    if image.is_dir():
        if box or boxes is None:
            raise DataError(f"{image} is a folder: give --boxes FILE.csv with the columns name,x0,y0,x1,y1")
        return _folder_jobs(image, all_boxes_from_csv(boxes), out)
    if not image.is_file():
        raise DataError(f"{image}: no such file or folder; expected an image, or a folder of images")
    if boxes is not None or not box:
        instead = ", not --boxes" if boxes is not None else ""
        raise DataError(f"{image} is one image: give --box x0,y0,x1,y1, once for each object{instead}")
    return [Job(image.stem, image, tuple(box))], 0


def _folder_jobs(folder: Path, boxes: Mapping[str, tuple[Box, ...]], out: Path) -> tuple[list[Job], int]:
    images: dict[str, Path] = {}
    twice = []
    for path in sorted(folder.iterdir()):
        if is_image_file(path):
            name = stem_of(path)
            twice += [path.name] if name in images else []
            images.setdefault(name, path)
    named: dict[str, tuple[Box, ...]] = {}
    for name, several in boxes.items():
        # a row may name the file or its stem
        key = composed(name)
        key = key if key in images else stem_of(Path(key))
        named[key] = (*named.get(key, ()), *several)
    if not images:
        inner = sorted(place.name for place in folder.iterdir() if place.is_dir())
        hint = f"; did you mean a folder in it ({few_of(inner)})?" if inner else ""
        raise DataError(f"{folder}: holds no image; expected files such as .png, .jpg or .tif{hint}")
    if within := _within(folder, out):
        click.echo(f"note: images in folders within {folder} are not read: {few_of(within)}", err=True)
    problems = {
        "two images of one name": twice,
        "row without an image": [name for name in named if name not in images],
    }
    found = [f"{what}: {few_of(names)}" for what, names in problems.items() if names]
    if not found and not named:
        found = ["no row in --boxes: expected one for each object"]
    if found:
        raise DataError(f"{folder}: {'; '.join(found)}")
    without = [name for name in images if name not in named]
    if without:
        # a detector that found nothing: all of them are named
        click.echo(f"note: no box in --boxes, so no mask: {', '.join(without)}", err=True)
    return [Job(name, path, named[name]) for name, path in images.items() if name in named], len(without)


def _within(folder: Path, out: Path) -> list[str]:
    """Folders within a folder that hold images, by their paths there, each with how many; but for that of the masks."""
    deeper = (place for place in sorted(folder.rglob("*")) if place.parent != folder and is_image_file(place))
    others = (place for place in deeper if not place.resolve().is_relative_to(out.resolve()))
    counts = Counter(place.parent.relative_to(folder).as_posix() for place in others)
    return [f"{name}/ ({count})" for name, count in counts.items()]


def _refuse_replacing(jobs: Sequence[Job], way: _Way) -> None:
    wanted = [file for job in jobs for file in job.files(way)]
    inputs = {job.image.resolve() for job in jobs}
    if lost := [str(file) for file in wanted if file.resolve() in inputs]:
        raise DataError(f"would be written over images that are read: {few_of(lost)}; choose another --out")


def _doubt(box: Box, shape: Sequence[int]) -> str:
    """What is odd about a box that can be used all the same."""
    (x0, y0, x1, y1), (height, width) = box, shape
    if x1 < x0 or y1 < y0 or x0 >= width or y0 >= height or x1 < 0 or y1 < 0:
        # refused in words of its own
        return ""
    if max(x1 - x0, y1 - y0) < _FEWEST_PX:
        return (
            f"the box {box} is smaller than {_FEWEST_PX} pixels; boxes are in pixels of the image, not in shares of it"
        )
    if min(x0, y0) < 0 or x1 > width or y1 > height:
        return f"the box {box} reaches out of the image of {width} x {height} pixels"
    return ""


def _measure(done_before: Sequence[Job], way: _Way, anew: Sequence[Job] = ()) -> None:
    """Write the table of areas: of what was segmented now, and of what the table of an earlier run lacks."""
    known = areas.known(way.out)
    jobs = [*(job for job in done_before if job.masks(way)[0].name not in known), *anew]
    form = FORMATS[way.form]
    areas.add(way.out, (row for job in jobs for row in areas.rows_of(job.image, job.boxes, job.masks(way), form)))


def _segment(predictor: Predictor, job: Job, way: _Way, by: tuple[str, str]) -> None:
    image = read_image(job.image)
    for box in job.boxes:
        if note := _doubt(box, image.shape[:2]):
            click.echo(f"note: {job.image}: {note}", err=True)
    try:
        predictor.set_image(image)
        masks = [predictor.predict(box) for box in job.boxes]
    except DataError as error:
        raise DataError(f"{job.image}: {error}") from error
    FORMATS[way.form].write(job.masks(way), Segmented(job.image, masks, job.boxes, *by))
    if way.drawn:
        write_picture(job.files(way)[-1], overlay(image, masks, list(job.boxes)))
