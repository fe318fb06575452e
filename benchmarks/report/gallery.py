"""Pictures for the report: a few images as small PNGs, and everybody's contours on them as lines in one JSON file."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from skimage import io, measure, transform

from ..._support.files import atomic_write
from ..._support.progress import track
from ...data.samples import Subset
from ...evaluation.evaluate import Masks, score
from ...evaluation.images import EvaluationSet
from ...pruning.plan import Plan
from ...pruning.surgery import prune
from ..runner.evaluate import UNPRUNED, Evaluator
from ..runner.jobs import Job
from ..runner.store import ResultStore
from .page import environment
from .summary import Summary

ANALYSIS = "gallery"
_LONGEST_SIDE_PX = 256
_MODE, _SEED = "own", 0
_ROOM = 1.7  # sides of a picture's view to the longer side of the box


def choose(evaluator: Evaluator, dataset: str) -> list[int]:
    """Choose images of a data set, evenly from the best to the worst contour of the unpruned model."""
    evaluation = evaluator.store.evaluation(evaluator.key(UNPRUNED, dataset))
    assert evaluation is not None
    order = np.argsort(-evaluation.images["bf1"].to_numpy(), kind="stable")
    count = min(len(order), evaluator.settings.counts.gallery_images)
    ranks = (np.arange(count) + 0.5) / max(1, count) * len(order)
    return [int(order[int(rank)]) for rank in ranks]


def make_gallery(evaluator: Evaluator, jobs: Sequence[Job]) -> None:
    """Store the pictures and contours that the report shows: own quotas, the first seed, every method and level.

    What is stored already for the same plans and images is left as it is, other methods' too.
    """
    wanted = {f"{job.level}/{job.method}": job.plan for job in jobs if (job.mode, job.seed) == (_MODE, _SEED)}
    chosen = {name: choose(evaluator, name) for name in evaluator.inputs.sets}
    alike = {"chosen": chosen, "precision": evaluator.settings.precision}
    earlier = evaluator.store.analysis(ANALYSIS) or {}
    if any(earlier.get("state", {}).get(name) != value for name, value in alike.items()):
        earlier = {}
    known = earlier.get("state", {}).get("plans", {})
    shown: dict[str, Plan | None] = {key: plan for key, plan in wanted.items() if known.get(key) != plan.hash}
    if not earlier:
        shown = {UNPRUNED: None, **shown}
    if not shown:
        return
    state = {"plans": {**known, **{key: plan.hash for key, plan in wanted.items()}}, **alike}
    images = {name: few_of(evaluator, name, places) for name, places in chosen.items()}
    pictures = earlier.get("pictures") or [
        picture for name, (few, _) in images.items() for picture in pictures_of(evaluator.store, few, range(len(few)))
    ]
    for key, name, masks in track(_masks(evaluator, images, shown), "gallery", total=len(images) * len(shown)):
        rows = score(masks, images[name][1], tolerance_px=evaluator.settings.tolerance_px)
        add_masks([picture for picture in pictures if picture["dataset"] == name], rows, key, masks)
    evaluator.store.write_analysis(ANALYSIS, {"state": state, "pictures": pictures})


def few_of(evaluator: Evaluator, name: str, places: Sequence[int]) -> tuple[Subset, EvaluationSet]:
    """Images of a data set at some places, and the same made ready."""
    few = Subset(evaluator.inputs.sets[name], tuple(places), name)
    return few, EvaluationSet(few, evaluator.inputs.frame, evaluator.settings.eval_size)


def pictures_of(store: ResultStore, few: Subset, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Write images as PNGs of these numbers and describe each, no masks predicted yet."""
    dataset = few.name
    for number, sample in zip(numbers, few, strict=True):
        path = f"gallery/{dataset}-{number}.png"
        small = _small(sample.image)
        with atomic_write(store.root / path) as temporary:
            io.imsave(temporary, small, check_contrast=False)
        height, width = sample.mask.shape
        x0, y0, x1, y1 = sample.box
        yield {
            "dataset": dataset,
            "name": sample.name,
            "file": path,
            "size": [small.shape[1], small.shape[0]],
            "box": [x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height],
            "true": contours(sample.mask),
            "predicted": {},
        }


def _small(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(1.0, _LONGEST_SIDE_PX / max(height, width))
    shape = (max(1, round(height * factor)), max(1, round(width * factor)))
    resized = transform.resize(image[:, :, :3], shape, anti_aliasing=factor < 1, preserve_range=True)
    return np.asarray(resized.round().clip(0, 255), dtype=np.uint8)


def _masks(
    evaluator: Evaluator, images: Mapping[str, tuple[Subset, EvaluationSet]], plans: Mapping[str, Plan | None]
) -> Iterator[tuple[str, str, Masks]]:
    whole = evaluator.inputs.adapted
    for key, plan in plans.items():
        model = cache(partial(prune, whole, plan) if plan else lambda: whole)
        for name, (few, ready) in images.items():
            yield key, name, evaluator.masks_of(plan.hash if plan else UNPRUNED, few, ready, model)


def add_masks(pictures: Sequence[dict[str, Any]], rows: pd.DataFrame, key: str, masks: Masks) -> None:
    """Note what a model predicted on pictures, in their order, with its scores."""
    for picture, mask, bf1, dice in zip(pictures, masks, rows["bf1"], rows["dice"], strict=True):
        picture["predicted"][key] = {"contours": contours(mask), "bf1": float(bf1), "dice": float(dice)}


def contours(mask: npt.NDArray[np.bool_]) -> list[list[list[float]]]:
    """Trace the outlines of a mask, (H, W) bool: closed lines of (x, y) points, as shares of width and height."""
    height, width = mask.shape
    # a frame of background closes outlines at the border
    lines = measure.find_contours(np.pad(mask, 1).astype(float), 0.5)
    # a step of half a pixel is all that a thinned line may be off
    thinned = [measure.approximate_polygon(line, 0.5) for line in lines]
    return [
        [[round(float(x - 0.5) / width, 4), round(float(y - 0.5) / height, 4)] for y, x in line] for line in thinned
    ]


def shown(store: ResultStore, summary: Summary, analysis: str = ANALYSIS) -> Markup:
    """Draw the stored pictures with the contours that are known, a tab a level; empty where the run kept none."""
    found = store.analysis(analysis)
    if not found or not found["pictures"]:
        return Markup()
    keys = {key for picture in found["pictures"] for key in picture["predicted"]}
    methods = [method for method in summary.methods if any(key.endswith(f"/{method}") for key in keys)]
    pictures = []
    for picture in found["pictures"]:
        # whatever the record says, nothing else than the gallery gets into the page
        image = (store.root / "gallery" / Path(picture["file"]).name).read_bytes()
        uri = "data:image/png;base64," + base64.b64encode(image).decode()
        pictures.append({**picture, "uri": uri, "view": _view(picture["box"], picture["size"])})
    templates = environment()
    templates.filters["path"] = _path
    gallery = templates.get_template(f"{analysis}.html.j2")
    text = gallery.render(
        pictures=pictures, methods=methods, levels=summary.levels, subject=summary.subject, unpruned=UNPRUNED
    )
    return Markup(text)  # the template has escaped what it shows


def _view(box: Sequence[float], size: Sequence[int]) -> str:
    """View box of a square around the object, so that its contour can be judged."""
    width, height = size
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = min(_ROOM * max(x1 - x0, y1 - y0), width, height)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    return f"{left:.1f} {top:.1f} {side:.1f} {side:.1f}"


def _path(lines: Sequence[Sequence[Sequence[float]]], size: Sequence[int]) -> str:
    """Write contours, given as shares of width and height, as the path of an SVG of that size."""
    width, height = size
    return " ".join(
        "M" + " ".join(f"{x * width:.1f},{y * height:.1f}" for x, y in line) + "Z" for line in lines if line
    )
