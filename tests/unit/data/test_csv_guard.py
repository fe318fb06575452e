"""Tables as CSV: no text that a spreadsheet would run, numbers that stay numbers, and the same texts back."""

import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcore_prune.benchmarks.runner.store import Evaluation, ResultStore
from medcore_prune.data.csv_table import csv_text, guarded, unguarded

EVIL = ["=cmd|' /C calc'!A0", "+1", "-5", "@sum", "\tx", "\rx", "'=x", "''-x", "'", "fine", "", "a=b", "'a"]


@pytest.mark.parametrize("text", EVIL)
def test_no_text_is_a_formula_and_all_come_back(text: str) -> None:
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(guarded(text)) == text


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert unguarded(guarded(text)) == text


def test_numbers_stay_numbers() -> None:
    table = pd.DataFrame(
        {"name": ["-5", "=1+1"], "count": [-5, 3], "value": [-0.5, float("nan")], "below": [True, False]}
    )
    text = csv_text(table)
    assert text == "name,count,value,below\n'-5,-5,-0.5,True\n'=1+1,3,,False\n"
    assert pd.read_csv(io.StringIO(text))["count"].tolist() == [-5, 3]


def test_per_image_metrics_come_back(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, {"identity": {"adapted": "abc"}})
    table = pd.DataFrame({"dataset": "a", "name": EVIL, "group": EVIL[::-1], "dice": -0.1, "empty": "none"})
    store.write_evaluation(Evaluation("k", table, 0.0), {})
    cells = (tmp_path / "evaluations" / "k.csv").read_text().splitlines()
    assert not any(line.startswith("a,=") for line in cells)
    back = store.evaluation("k")
    assert back is not None
    pd.testing.assert_frame_equal(back.images, table, check_exact=True, check_dtype=False)
