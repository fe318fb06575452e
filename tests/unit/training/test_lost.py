"""Specks that are gone at the size of training, or of validation, are said and never judged as found."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_sam
from tiny_samples import Fixed

from medcore_prune._support.errors import MedcorePruneWarning
from medcore_prune.data.frame import Frame
from medcore_prune.data.prompts import box_from_mask
from medcore_prune.data.samples import Sample
from medcore_prune.evaluation.evaluate import EvaluationSet
from medcore_prune.training.adapt import adapt
from medcore_prune.training.judge import Judge
from medcore_prune.training.settings import AdaptSettings


def sample(number: int, radius: float) -> Sample:
    mask = np.hypot(*np.mgrid[-300:600, -500:700]) < radius
    image = np.random.default_rng(number).integers(90, 120, (900, 1200, 3), dtype=np.uint8)
    return Sample("fixed", f"f{number}", image, mask, box_from_mask(mask), f"f{number}")


@pytest.fixture(scope="module")
def specks() -> Fixed:
    return Fixed([sample(number, 1.5 if number % 2 else 120) for number in range(4)])


def test_a_recovery_does_not_choose_by_specks_that_are_gone(specks: Fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(MedcorePruneWarning, match=r"2 of 4 images of fixed are compared at their own size, .*: f1, f3$"):
        judge = Judge({"fixed": specks}, Frame(48), None)

    def nothing(_: object, images: EvaluationSet, **__: object) -> list[np.ndarray]:
        return [np.zeros(grid, bool) for grid in (place.grid for place in images.places)]

    monkeypatch.setattr("medcore_prune.training.judge.predict", nothing)
    assert dict(judge(tiny_sam()).means) == {"bf1": 0.0, "dice": 0.0}
    monkeypatch.setattr("medcore_prune.training.judge.predict", lambda _, images, **__: images.true_masks)
    assert dict(judge(tiny_sam()).means) == {"bf1": 1.0, "dice": 1.0}


def test_an_adaptation_names_them(specks: Fixed, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = AdaptSettings(steps=1, batch_size=1)
        adapt(tiny_sam(), {"fixed": specks}, {"fixed": Fixed([specks[0]])}, settings, tmp_path / "state.pt")
    said = [str(each.message) for each in caught if issubclass(each.category, MedcorePruneWarning)]
    assert len(said) == 1
    assert said[0].startswith("2 of 4 training images have an object that fills half of no pixel at 64 px")
    assert "(fixed/f1, fixed/f3)" in said[0]
