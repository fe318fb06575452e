"""Boxes that are written in another way than as corners in pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medcore_prune._support.errors import DataError, DataWarning
from medcore_prune.data.folders.folder import folder
from medcore_prune.data.prompts import box_from_mask, jitter_box
from medcore_prune.data.samples import arrays

HEIGHT, WIDTH, COUNT = 120, 160, 6
Way = Callable[[float, float, float, float], tuple[float, ...]]
WAYS: dict[str, Way] = {
    "x, y, width, height in pixels": lambda x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0),
    "centre x, centre y, width, height in pixels": lambda x0, y0, x1, y1: (
        (x0 + x1) / 2,
        (y0 + y1) / 2,
        x1 - x0,
        y1 - y0,
    ),
    "y0, x0, y1, x1 in pixels": lambda x0, y0, x1, y1: (y0, x0, y1, x1),
    "x0, y0, x1, y1 in shares of the image": lambda x0, y0, x1, y1: (x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT),
    "centre x, centre y, width, height in shares of the image": lambda x0, y0, x1, y1: (
        (x0 + x1) / 2 / WIDTH,
        (y0 + y1) / 2 / HEIGHT,
        (x1 - x0) / WIDTH,
        (y1 - y0) / HEIGHT,
    ),
}


def masks() -> list[np.ndarray]:
    """Objects that are nearer to the upper left corner than large, so that width and height are corners as well."""
    made = [np.zeros((HEIGHT, WIDTH), bool) for _ in range(COUNT)]
    for number, mask in enumerate(made):
        mask[10 + number : 60 + number, 12 + number : 80 + number] = True
    return made


def images() -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for n in range(COUNT)]


def written(root: Path, save, boxes: list[tuple[float, ...]]) -> Path:
    for number, (image, mask) in enumerate(zip(images(), masks(), strict=True)):
        save(root / "images" / f"b{number}.png", image)
        save(root / "masks" / f"b{number}.png", mask.astype(np.uint8) * 255)
    rows = [",".join(map(str, (f"b{number}", *box))) for number, box in enumerate(boxes)]
    (root / "boxes.csv").write_text("\n".join(["name,x0,y0,x1,y1", *rows]) + "\n")
    return root


@pytest.mark.parametrize("way", WAYS)
def test_another_way_to_write_boxes_is_named(tmp_path: Path, save, way: str) -> None:
    boxes = [WAYS[way](*box_from_mask(mask)) for mask in masks()]
    says = rf"overlap with their masks by 0\.\d\d, read as {way} by (0\.9\d|1\.00): write them as corners in pixels"
    if all(x0 <= x1 and y0 <= y1 for x0, y0, x1, y1 in boxes):
        root = written(tmp_path, save, boxes)
        with pytest.raises(DataError, match=says):
            folder(root, boxes=root / "boxes.csv")
        with pytest.raises(DataError, match=says):
            arrays("set", images(), masks(), boxes=boxes)
    else:
        with pytest.raises(DataError, match="expected x0 <= x1"):
            arrays("set", images(), masks(), boxes=boxes)


def test_boxes_as_people_and_detectors_draw_them_raise_no_alarm(recwarn) -> None:
    rng = np.random.default_rng(0)
    tight = [box_from_mask(mask) for mask in masks()]
    for made in (
        tight,
        [jitter_box(box, (HEIGHT, WIDTH), 20, rng) for box in tight],
        [tuple(np.array(box) + rng.uniform(-8, 8, 4)) for box in tight],
        [(0, 0, WIDTH - 1, HEIGHT - 1)] * COUNT,
    ):
        arrays("set", images(), masks(), boxes=made)
    assert not recwarn.list


def test_few_boxes_beside_their_mask_are_used_and_said(tmp_path: Path, save) -> None:
    boxes = [box_from_mask(mask) for mask in masks()]
    boxes[4] = (100.0, 80.0, 150.0, 110.0)
    root = written(tmp_path, save, boxes)
    with pytest.warns(DataWarning, match=r"1 of 6 boxes hold less than half of their mask \(b4 0%\)"):
        found = folder(root, boxes=root / "boxes.csv")
    assert "1 of 6 boxes" in found.notes[0]
    assert found[4].box == boxes[4]
    with pytest.warns(DataWarning, match="set: 1 of 6 boxes hold less"):
        arrays("set", images(), masks(), boxes=boxes)


def test_one_row_in_shares_is_said(tmp_path: Path, save) -> None:
    boxes = [box_from_mask(mask) for mask in masks()]
    boxes[2] = (0.1, 0.1, 0.5, 0.5)
    root = written(tmp_path, save, boxes)
    with pytest.warns(DataWarning, match=r"b2 0%\): boxes are x0, y0, x1, y1 in pixels of the image, not in shares"):
        folder(root, boxes=root / "boxes.csv")
