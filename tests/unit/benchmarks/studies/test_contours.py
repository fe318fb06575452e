"""The picture of contours: whose they are, whose scores stand above them, and that the object is in sight."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import medcore_prune as mp
from medcore_prune.benchmarks.studies.contours import SEED, SETS, _view, columns, draw, main


def test_columns_have_the_first_image_of_each_set_and_the_scores_of_all() -> None:
    model = mp.zoo.pocket("adapted")
    small = mp.prune(model, mp.plan(model, "h84_m95", "magnitude"))
    samples, found = columns({"whole": model, "small": small}, 2)
    assert [sample.dataset for sample in samples] == list(SETS)
    for column, each in zip(found, (model, small), strict=True):
        sets = {name: mp.data.phantoms.make(name, seed=SEED, count=2, size=256) for name in SETS}
        table = mp.evaluate(each, sets, eval_size="original", progress=False)
        assert column.heading.startswith(column.title)
        assert f"Dice {table['dice'].mean():.3f}, Boundary F1 {table['bf1'].mean():.3f}" in column.heading
    titles = [axis.get_title() for axis in draw(samples, found).axes]
    assert [title for title in titles if title] == [column.heading for column in found]


@pytest.mark.parametrize("name", SETS)
def test_the_view_is_a_square_with_the_whole_object(name: str) -> None:
    for sample in mp.data.phantoms.make(name, seed=SEED, count=4, size=256):
        rows, across = _view(sample)
        assert rows.stop - rows.start == across.stop - across.start
        assert np.count_nonzero(sample.mask[rows, across]) == np.count_nonzero(sample.mask)


def test_the_picture_is_one_file(tmp_path: Path) -> None:
    out = tmp_path / "c.svg"
    done = CliRunner().invoke(main, ["--model", "whole", "pocket", "--count", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().startswith("<?xml")
