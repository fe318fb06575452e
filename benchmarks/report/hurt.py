"""Pictures of the images on which the best method of each level loses most contour."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..._support.progress import track
from ...evaluation.evaluate import score
from ..runner.evaluate import UNPRUNED, Evaluator
from ..runner.jobs import Job, built
from ..runner.settings import CORRECTED
from .answer import choices
from .gallery import add_masks, few_of, pictures_of
from .summary import summarise

ANALYSIS = "hurt"
_IMAGES = 2
"""Images of each data set and level."""
# beyond the numbers of the gallery's own pictures
_FIRST_NUMBER = 1000


def make_hurt(evaluator: Evaluator, jobs: Sequence[Job]) -> None:
    """Store what the report shows of where it hurts: the best method of each level, first seed, as it was evaluated.

    Models are made once more where their masks are not kept. What is stored already for the same models is left as it
    is.
    """
    by_place = {(job.mode, job.level, job.method): job for job in reversed(jobs)}
    best = [one.row.place for one in choices(summarise(evaluator.store))]
    # methods of an earlier run whose plans are not at hand are left out
    picked = [by_place[place] for place in best if place in by_place]
    places = {job.masks: _worst(evaluator, job) for job in picked}
    models = {job.level: job.masks for job in picked}
    state = {"models": models, "places": places, "precision": evaluator.settings.precision}
    if not picked or (evaluator.store.analysis(ANALYSIS) or {}).get("state") == state:
        return
    pictures = [
        picture
        for job, model in track(_models(evaluator.inputs.adapted, picked), "where it hurts", total=len(picked))
        for picture in _of_job(evaluator, job, model, places[job.masks])
    ]
    evaluator.store.write_analysis(ANALYSIS, {"state": state, "pictures": pictures})


def _models(whole: nn.Module, jobs: Sequence[Job]) -> Iterator[tuple[Job, Callable[[], nn.Module]]]:
    """Each job with what makes its model, if it is asked for before the next job is."""
    made: dict[str, nn.Module] = {}

    def model(place: int) -> nn.Module:
        nonlocal made
        if jobs[place].masks not in made:
            made = built(whole, jobs[place:])
        return made[jobs[place].masks]

    for place, job in enumerate(jobs):
        yield job, partial(model, place)


def _worst(evaluator: Evaluator, job: Job) -> dict[str, list[int]]:
    """Data set to the places of the images whose Boundary F1 falls most against the unpruned model, worst first."""
    found = {}
    for name in evaluator.inputs.sets:
        lost = _bf1(evaluator, UNPRUNED, name) - _bf1(evaluator, job.masks, name)
        order = np.argsort(-lost, kind="stable")[:_IMAGES]
        found[name] = [int(place) for place in order if lost[place] > 0]
    return found


def _bf1(evaluator: Evaluator, masks: str, dataset: str) -> npt.NDArray[np.float64]:
    evaluation = evaluator.store.evaluation(evaluator.key(masks, dataset))
    assert evaluation is not None
    return evaluation.images["bf1"].to_numpy(np.float64)


def _of_job(
    evaluator: Evaluator, job: Job, model: Callable[[], nn.Module], places: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, Any]]:
    whole = evaluator.inputs.adapted
    for name, chosen in places.items():
        if not chosen:
            continue
        few, ready = few_of(evaluator, name, chosen)
        pictures = list(pictures_of(evaluator.store, few, (_FIRST_NUMBER + place for place in chosen)))
        for key, masks, each in (
            (UNPRUNED, UNPRUNED, lambda: whole),
            (f"{job.level}/{job.method}", job.masks, model),
        ):
            found = evaluator.masks_of(masks, few, ready, each)
            add_masks(pictures, score(found, ready, tolerance_px=evaluator.settings.tolerance_px), key, found)
        title = f"{job.method}, corrected" if job.mode == CORRECTED else job.method
        yield from ({**picture, "level": job.level, "title": title} for picture in pictures)
