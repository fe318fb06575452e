"""The page of what each step costs says what the records hold, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_sam

from medcore_prune.benchmarks.report.how_fast import ROWS, growth, memory, predicted, sources, steps
from medcore_prune.benchmarks.report.on_gpu import CROSSINGS, full, goals, since
from medcore_prune.benchmarks.speed.growth import fitted
from medcore_prune.benchmarks.speed.workflow import steps_of

ABOUT = {
    "script": "made up",
    "date": "2026-01-02",
    "device": "cpu",
    "machine": {"processor": "a processor", "cores": 2, "load_before": 1.5},
    "threads": 1,
    "versions": {"torch": "9.9"},
    "note": "beside other work",
    "model": "pocket",
    "image_size": 96,
    "repeats": 3,
}
GPU = {**ABOUT, "device": "a GPU", "machine": {}, "note": "", "model": "vit_b", "image_size": 1024}


def step(ratio: float) -> dict[str, Any]:
    return {"seconds": ratio / 10, "ratio": ratio, "ratio_spread": [ratio / 2, ratio * 2]}


@pytest.fixture
def timings(tmp_path: Path) -> Path:
    def put(name: str, about: dict[str, Any], **found: Any) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps({**about, **found}))

    run = {"batch_size": 1, "images": 4}
    put("workflow_pocket", ABOUT, **run, steps={"training": step(1), **{row.step: step(3) for row in ROWS}})
    of_gpu = {"training": 1, "evaluation": 0.6, "recovery": 2, "directional, both losses": 1.5}
    of_gpu |= {"fisher, both losses": 4, "correction": 5}
    steps_of = {name: {"seconds": ratio / 10, "ratio": ratio} for name, ratio in of_gpu.items()}
    put(
        "workflow_vit_b_h100",
        GPU,
        **run,
        steps=steps_of,
        latency_ms={"whole": 50.0, "h40_m30": 40.0, "h50_m70": 30.0, "h70_m95": 20.0},
    )
    for row in ROWS:
        for usual in (*row.usual, *row.on_gpu):
            path = tmp_path / f"{usual.file}.json"
            record = json.loads(path.read_text()) if path.exists() else dict(ABOUT)
            found = record.setdefault("models", {}).setdefault(usual.model, {}) if usual.model else record
            found |= {usual.ratio: 1.5, f"{usual.ratio}_spread": [1.25, 1.75]}
            path.write_text(json.dumps(record))
    usual = json.loads((tmp_path / "usual_pocket.json").read_text())
    both = {"predict_1_pixels": 1000, "predict_1_differences": 1, "predict_5_pixels": 5000, "predict_5_differences": 2}
    put("usual_pocket", usual, cut_differences=0, **both)
    encoding = json.loads((tmp_path / "encoding_pocket.json").read_text())
    put("encoding_pocket", encoding, boxes_an_image=5)
    each, fixed = fitted([1, 2], [4.0, 6.0])
    line = {"unit": "images", "counts": [1, 2], "each": each, "fixed": fixed, "off": 0.01}
    put("growth_pocket", ABOUT, pass_ms=40.0, axes={"calibration": line})
    ops = {"evaluation": 0.5, "recovery": 1.0, "directional, both losses": 1.5, "correction": 2.0}
    put(
        "counted",
        ABOUT,
        level="h50_m70",
        steps={name: {"over_training": value} for name, value in ops.items()},
        correction_together={"over_training": 0.5},
        together=8,
        streams={"blocks": 12, "mb_an_image_and_stream": 10.0, "gb": 20.0, "images": 192, "models": 8},
        full={
            "methods": 16,
            "levels": 4,
            "calibrated_samples": 600,
            "corrected_plans": 10,
            "corrected_images": 1200,
            "evaluated_plans": 20,
            "evaluated_images": 6000,
            "interventions": 2400,
            "statistics_gb": 12.5,
        },
    )
    return tmp_path


def test_each_step_beside_a_pass_and_beside_the_usual(timings: Path) -> None:
    table = steps(timings)
    assert len(table.rows) == len(ROWS) + 5
    by = {(row[0], row[3]): row[1:3] for row in table.rows}
    assert by["all metrics, a pair of masks", "CPU"] == [
        "3.00 x (1.50 to 6.0)",
        "MONAI's Dice, surface Dice and HD95: 1.50 x (1.25 to 1.75); MONAI's HD95: 1.50 x (1.25 to 1.75)",
    ]
    assert by["evaluate, an image", "GPU"] == ["0.60 x", "–"]
    assert "pocket at 96 px, on a processor, 1 thread, torch 9.9, 2026-01-02, beside other work" in table.footer[0]
    assert "takes 100 ms" in table.footer[0]
    assert "0 tensors differ" in table.footer[2]
    assert "3 of 6,000 pixels" in table.footer[2]


def test_what_was_not_installed_has_no_number(timings: Path) -> None:
    path = timings / "fisher_pocket.json"
    record = json.loads(path.read_text())
    del record["opacus_over_one_loss"]
    path.write_text(json.dumps(record))
    told = next(row[2] for row in steps(timings).rows if "Opacus" in row[2])
    assert "Opacus's per-sample gradients, one loss: not installed there; one sample" in told


def test_growth_says_slope_and_start(timings: Path) -> None:
    assert growth(timings).rows == [["calibration", "images", "1, 2", "2.00", "2.00", "1%"]]


def test_memory_stands_beside_inputs(timings: Path) -> None:
    found = {"counts": [1000, 10000], "opened_mb": [300.4, 310.0], "peaks_mb": [500.0, 522.6]}
    found |= {"inputs_mb": [786.4, 7864.3], "kb_an_image": 2.51}
    about = {name: value for name, value in ABOUT.items() if name not in ("model", "image_size")}
    about |= {"size": 256, "batch_size": 8, "kept_mb": 20.0}
    (timings / "memory.json").write_text(json.dumps({**about, **found}))
    large = {"size": 1024, "counts": [300], "opened_mb": [1], "peaks_mb": [2], "inputs_mb": [3], "kb_an_image": -1.0}
    (timings / "memory_1024.json").write_text(json.dumps({**about, **large}))
    table = memory(timings)
    assert table.rows == [
        ["256 px", "1,000", "300 MB", "500 MB", "786 MB"],
        ["256 px", "10,000", "310 MB", "523 MB", "7,864 MB"],
        ["1024 px", "300", "1 MB", "2 MB", "3 MB"],
    ]
    assert "grows by 2.5 kB an image" in table.footer[0]
    assert table.footer[0].startswith(
        "256 px: on a processor, 1 thread, torch 9.9, 2026-01-02, beside other work; from"
    )
    assert table.footer[1].startswith("1024 px: ")
    assert table.footer[1].endswith("the peak does not grow.")


def test_predicted_times_stand_beside_measured_ones(timings: Path) -> None:
    found = {
        "h20_m20": {"predicted": 0.1, "removed": 0.125, "error": 0.0286},
        "h70_m70": {"predicted": 0.5, "removed": 0.4578, "error": -0.0778},
    }
    run = {**ABOUT, "batch_size": 1, "repeats": 7, "predicted": found}
    (timings / "sizes_pocket.json").write_text(json.dumps(run))
    table = predicted(timings)
    assert table.rows == [["h20_m20", "10.0%", "12.5%", "+2.9%"], ["h70_m70", "50.0%", "45.8%", "-7.8%"]]
    assert "No level is farther off than 7.8% of" in table.footer[0]


def test_what_is_counted_since(timings: Path) -> None:
    rows = [row[1:] for row in since(timings).rows]
    assert rows[0] == ["5", "1"]
    assert rows[1] == ["2.00, each by itself", "0.50, 8 plans together"]
    assert rows[2][0] == f"{CROSSINGS * 12 * 10 / 1e3:.2f} GB"
    assert rows[3] == ["100%", "54%"]
    assert rows[4] == ["50 GB, 4 shards of full size", "12 GB, and scores of units for the stability"]
    assert rows[5][0] == "20, one a plan"


def test_the_full_comparison_on_paper(timings: Path) -> None:
    table = full(timings)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["calibrate"] == ["600", "0.400", "0.400", "4", "4"]
    # 1200 images, 0.5 s then; 0.5 passes of 0.1 s now, and twice that, as a recovery took of its count
    assert rows["correct"] == ["1,200", "0.500", "0.050 to 0.100", "10", "1 to 2"]
    # cut to h40_m30, h50_m70, h70_m70 and h84_m95 the encoder saves 10, 20, 20 and 30 ms
    assert rows["evaluate"] == ["6,000", "0.060", "0.040 to 0.060", "6", "4 to 6"]
    assert rows["exact interventions"] == ["2,400", "0.050", "0.027", "2", "1"]
    assert rows["**all**"][3:] == ["**22**", "10 to 13"]
    assert "up to 2.0 times that" in table.footer[1]


def test_every_record_is_named_with_its_device(timings: Path) -> None:
    rows = {row[0]: row[1:] for row in sources(timings).rows}
    assert len(rows) == len(list(timings.glob("*.json")))
    assert rows["[counted](results/speed/counted.json)"] == ["`made up`", "cpu", "2026-01-02", "9.9", "1.5 on 2 cores"]
    assert rows["[workflow_vit_b_h100](results/speed/workflow_vit_b_h100.json)"][1:] == [
        *("a GPU", "2026-01-02", "9.9", "–")
    ]


def test_steps_are_those_that_are_timed(timings: Path) -> None:
    known, left_out = steps_of(tiny_sam(), 1, 1, timings)
    assert {row.step for row in ROWS} | {"training"} == known.keys() | left_out.keys()


def cells(timings: Path) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for row in goals(timings).rows}


def test_goals_stand_beside_what_was_measured_and_what_was_not(timings: Path) -> None:
    one = json.loads((timings / "workflow_vit_b_h100.json").read_text())
    put = {"attention": "segment-anything", "latency_ms": {"whole": 50.0, "h50_m70": 25.0}}
    (timings / "workflow_vit_b_h100.json").write_text(json.dumps({**one, **put}))
    put = {"attention": "sdpa", "batch_size": 4, "latency_ms": {"whole": 200.0, "h50_m70": 80.0}}
    (timings / "workflow_vit_b_h100_fused.json").write_text(json.dumps({**one, **put}))
    found = cells(timings)
    assert found["whole"] == ["120", "20", "20", "not measured"]
    assert found["h50_m70"] == ["200", "40", "50", "not measured"]
    # the paper's 926.5 and 385.2 GFLOPs
    fewer = 926.5 / 385.2
    assert found["quicker, over fewer FLOPs"] == [
        "at least 0.9",
        f"{2 / fewer:.2f}",
        f"{2.5 / fewer:.2f}",
        "not measured",
    ]
    assert "No record in bf16" in goals(timings).markdown()
    # of another device, number type or cut it is no answer
    row = {"cut": "dense", "batch": 8, "precision": "bf16", "mask_ms": 80.0, "flex_ms": 64.0, "flex_to_mask": 0.8}
    rows = [
        row,
        {**row, "batch": 1, "mask_ms": 9.0},
        {**row, "precision": "tf32", "mask_ms": 1.0},
        {**row, "cut": "other", "mask_ms": 1.0},
        {"cut": "dense", "batch": 1, "precision": "bf16", "left_out": "no such precision"},
        {**row, "cut": "h50_m70", "flex_ms": 40.0},
    ]
    ways = {**GPU, "script": "relative_positions", "rows": rows}
    for device in ("a GPU", "NVIDIA H100"):
        (timings / "relative_positions.json").write_text(json.dumps({**ways, "device": device}))
        expected = ["125", "200", f"{1.6 / fewer:.2f}"] if "H100" in device else ["not measured"] * 3
        assert [values[-1] for values in cells(timings).values()] == expected
    assert "No record" not in goals(timings).markdown()
