"""The tables of `docs/how_fast.md`, from what the scripts of `benchmarks.speed` stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.segment_anything import build_sam
from ...pruning.cost import count
from ...pruning.level import COMPARISON_LEVELS, Level
from ...pruning.planning import make_plan
from .tables import Grid

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Usual:
    """What one would take otherwise, and where it was timed beside ours.

    Attributes:
        says: What it is.
        file: The record, in the folder of timings.
        ratio: Its entry, times ours.
        model: The model within a record of several.
    """

    says: str
    file: str
    ratio: str
    model: str = ""


@dataclass(frozen=True)
class Row:
    """A step of the work as `speed.workflow` names it, in words, and what one would take otherwise."""

    step: str
    says: str
    usual: tuple[Usual, ...] = ()
    on_gpu: tuple[Usual, ...] = ()


_HF = "transformers' SAM with fused attention"
ROWS = (
    Row(
        "encoder",
        "the encoder, an image",
        (Usual(_HF, "attention_pocket", "forward_transformers_over_segment-anything", "pocket"),),
    ),
    Row(
        "fisher, both losses",
        "calibrate: Fisher sums of both losses, an image",
        (
            Usual("Opacus's per-sample gradients, one loss", "fisher_pocket", "opacus_over_one_loss"),
            Usual("one sample at a time, one loss", "fisher_pocket", "loop_over_one_loss"),
        ),
        (Usual("one sample at a time, one loss", "fisher_vit_b_h100", "loop_over_one_loss"),),
    ),
    Row("directional, both losses", "calibrate: directional sums, an image"),
    Row("score and plan", "score and plan, once a model"),
    Row(
        "cut",
        "cut, once a model",
        (Usual("torch-pruning's pruner, beside score, plan and cut", "usual_pocket", "cut_usual_over_cut_ours"),),
    ),
    Row(
        "correction",
        "correct, an image and plan",
        (Usual("one plan by itself, beside four together", "correction_pocket", "alone_over_together"),),
    ),
    Row("recovery", "recover, an image of a step"),
    Row(
        "evaluation",
        "evaluate, an image",
        (
            Usual("five boxes, the encoder once a box", "encoding_pocket", "per_box_over_once"),
            Usual("LiteMedSAM, its stem once more for every model", "encoding_lite_medsam", "once_over_stem_kept"),
        ),
    ),
    Row(
        "metrics",
        "all metrics, a pair of masks",
        (
            Usual("MONAI's Dice, surface Dice and HD95", "metrics", "monai_all_over_ours"),
            Usual("MONAI's HD95", "metrics", "monai_hd95_over_ours"),
        ),
    ),
    Row(
        "prediction, 1 box",
        "predict, an image and a box",
        (Usual("`SamPredictor`", "usual_pocket", "predict_1_usual_over_predict_1_ours"),),
    ),
    Row(
        "prediction, 5 boxes",
        "predict, an image and five boxes",
        (Usual("`SamPredictor`, one batch", "usual_pocket", "predict_5_usual_over_predict_5_ours"),),
    ),
    Row("export to ONNX", "export the encoder, once a model"),
    Row("encoder, ONNX", "the encoder under ONNX Runtime, an image"),
)
CPU, GPU = "workflow_pocket", "workflow_vit_b_h100"


def steps(timings: Path) -> Grid:
    """Each step beside a forward and backward pass, and beside what one would take otherwise, device by device."""
    on_cpu, on_gpu = read(timings / f"{CPU}.json"), read(timings / f"{GPU}.json")
    rows = []
    for row in ROWS:
        cpu = on_cpu["steps"].get(row.step)
        if cpu is not None:
            beside = _times(cpu["ratio"], cpu["ratio_spread"])
            rows.append([row.says, beside, _beside(timings, row.usual), "CPU"])
        if (gpu := on_gpu["steps"].get(row.step)) is not None:
            rows.append([row.says, _times(gpu["ratio"]), _beside(timings, row.on_gpu), "GPU"])
    told = [
        f"CPU: {_of(on_cpu)}, batch of {on_cpu['batch_size']}, {on_cpu['images']} images; one forward and backward "
        f"pass of an image takes {1e3 * on_cpu['steps']['training']['seconds']:.0f} ms. GPU: {_of(on_gpu)}, batch of "
        f"{on_gpu['batch_size']}, {on_gpu['images']} images; {1e3 * on_gpu['steps']['training']['seconds']:.0f} ms, "
        "with what is paid once in the seconds.",
        "Medians of ratios within a round, lowest to highest in brackets. *Beside the usual*: how many times our time "
        "the other takes; above 1 ours is quicker, below 1 the other is.",
        _the_same(read(timings / "usual_pocket.json")),
    ]
    return Grid("Each step", ["step", "beside forward + backward", "the usual, beside ours", "device"], rows, told)


def _the_same(run: Record) -> str:
    """How far what both sides made is the same."""
    counts = [key.removesuffix("_pixels") for key in run if key.endswith("_pixels")]
    pixels, other = (sum(run[f"{count}_{of}"] for count in counts) for of in ("pixels", "differences"))
    return (
        f"torch-pruning's pruner and ours make models of which {run['cut_differences']} tensors differ. `SamPredictor` "
        f"was given an image that both prepare alike: {other} of {pixels:,} pixels of the masks differ."
    )


def growth(timings: Path) -> Grid:
    """What one more image, box, method, level or block costs."""
    run = read(timings / "growth_pocket.json")
    rows = [
        [
            name,
            axis["unit"],
            ", ".join(map(str, axis["counts"])),
            f"{axis['each']:.2f}",
            f"{axis['fixed']:.2f}",
            f"{axis['off']:.0%}",
        ]
        for name, axis in run["axes"].items()
    ]
    heads = ["work", "of", "counts timed", "one more", "whatever the count", "farthest from the line"]
    told = [
        f"{_of(run)}. In forward and backward passes of one image ({run['pass_ms']:.0f} ms): slope and start of the "
        "line through the medians, and how far a median lies from it at most, as a share of the longest. A comparison "
        "scores, plans, cuts, corrects on 4 images and evaluates on 4; the levels of a method are corrected together."
    ]
    return Grid("One more", heads, rows, told, left=3)


def memory(timings: Path) -> Grid:
    """The peak of memory over many images beside what their inputs would take."""
    run = read(timings / "memory.json")
    columns = (run[name] for name in ("counts", "opened_mb", "peaks_mb", "inputs_mb"))
    rows = [
        [f"{count:,}", f"{opened:,.0f} MB", f"{peak:,.0f} MB", f"{inputs:,.0f} MB"]
        for count, opened, peak, inputs in zip(*columns, strict=True)
    ]
    size = run["size"]
    told = [
        f"Files of {size} x {size} pixels, no two alike, {_of(run, what=False)}: a program of its own opens the folder "
        f"and reads all of it into batches of {run['batch_size']}, and some again, keeping {run['kept_mb']:.0f} MB. No "
        f"encoder ran. From the first line to the last the peak grows by {run['kb_an_image']:.1f} kB an image.",
    ]
    heads = ["images", "peak when the folder is open", "peak when all are read", "their inputs in float32"]
    return Grid("Memory over many images", heads, rows, told)


CROSSINGS = 7
"""How often a block's stream went to the host's memory or back in the correction that the GPU's timings are of."""


def since(timings: Path) -> Grid:
    """What the work is made of, when the GPU's timings were taken and now: counted, on a processor."""
    counted, once = (read(timings / f"{name}.json") for name in ("counted", "encoding_pocket"))
    streams, work, boxes = counted["streams"], counted["full"], once["boxes_an_image"]
    crossed = CROSSINGS * streams["blocks"] * streams["mb_an_image_and_stream"] / 1e3
    alone, together = counted["steps"]["correction"], counted["correction_together"]
    half = (streams["blocks"] + 1) / (2 * streams["blocks"])
    rows = [
        [f"runs of the encoder to evaluate {boxes} boxes on an image", str(boxes), "1"],
        [
            "operations of a correction, an image and plan, beside forward + backward",
            f"{alone['over_training']:.2f}, each by itself",
            f"{together['over_training']:.2f}, {counted['together']} plans together",
        ],
        [
            "bytes of a correction of ViT-B at 1024 px to and from the host, an image and plan",
            f"{crossed:.2f} GB",
            f"none while {streams['gb']:.0f} GB, the streams of {streams['images']} images and {streams['models']} "
            "plans, are at most half of the free memory",
        ],
        ["blocks that an exact intervention runs, of all, over units of all blocks", "100%", f"{half:.0%}"],
        [
            "statistics of `baselines --full` on disk",
            f"{SHARDS * work['statistics_gb']:.0f} GB, {SHARDS} shards of full size",
            f"{work['statistics_gb']:.0f} GB, and scores of units for the stability",
        ],
        [
            "copies of a test set's inputs to the device in `baselines --full`",
            f"{work['evaluated_plans']}, one a plan",
            "1 while those of all sets are at most a quarter of the free memory",
        ],
    ]
    told = [f"Operations and runs: {_of(counted, False)}; a correction at {counted['level']}. Not run on a GPU since."]
    return Grid("What has changed since the GPU's timings", ["counted", "then", "now"], rows, told)


def full(timings: Path) -> Grid:
    """The full comparison on the GPU: what it asks for, at the stored seconds of each step, then and by counts now."""
    counted, run = read(timings / "counted.json"), read(timings / f"{GPU}.json")
    work, steps_then = counted["full"], run["steps"]
    seconds = {name: steps_then[name]["seconds"] for name in steps_then}
    unit = seconds["training"]
    forward = run["latency_ms"]["whole"] / 1e3
    corrected = counted["correction_together"]["over_training"] * unit
    slower, quicker = _slower_than_counted(counted, run), _quicker_when_cut(run)
    blocks = counted["streams"]["blocks"]
    fisher, evaluated = seconds["fisher, both losses"], seconds["evaluation"]
    parts = [
        ("calibrate", work["calibrated_samples"], fisher, (fisher,)),
        ("correct", work["corrected_images"], seconds["correction"], (corrected, corrected * slower)),
        ("evaluate", work["evaluated_images"], evaluated, (evaluated - quicker, evaluated)),
        ("exact interventions", work["interventions"], forward, (forward * (blocks + 1) / (2 * blocks),)),
    ]
    rows = [
        [
            name,
            f"{count:,}",
            f"{then:.3f}",
            _range(now, 3),
            f"{count * then / 60:.0f}",
            _range([count * each / 60 for each in now]),
        ]
        for name, count, then, now in parts
    ]
    ends = [sum(count * choose(now) for _, count, _, now in parts) / 60 for choose in (min, max)]
    rows.append(
        ["**all**", "", "", "", f"**{sum(count * then for _, count, then, _ in parts) / 60:.0f}**", _range(ends)]
    )
    heads = ["part", "images", "seconds each, then", "by counts now", "minutes then", "by counts now"]
    told = [
        f"`baselines --full`: {work['methods']} methods, {work['levels']} levels, three sets with 128 calibration, 64 "
        f"correction and 100 test images each; {work['evaluated_plans']} plans are evaluated, "
        f"{work['corrected_plans']} of them corrected. {_of(run)}.",
        "A correction now is its counted operations at the speed of a forward and backward pass, up to "
        f"{slower:.1f} times that, which is how much longer than counted steps took there that are as they were. "
        "An evaluation is that of the whole model, or, its encoder cut to the levels of the comparison, quicker by "
        f"{1e3 * quicker:.0f} ms in the mean, at the stored times of these or of the next milder cuts. Scores, "
        "reading, and what TF32 saves are not in it.",
    ]
    return Grid("A full comparison on one GPU, on paper", heads, rows, told)


GOALS = {"whole": 120.0, "h50_m70": 200.0}
"""Images a second that the encoder of ViT-B at 1024 px is to take in bfloat16 on an H100."""
OF_FLOPS = 0.9
"""How many times quicker a cut is to be, over how many times fewer FLOPs it has."""
GOALS_BY = "relative_positions"
"""The script that times the encoder in bfloat16, FlexAttention among its ways."""


def goals(timings: Path) -> Grid:
    """What the encoder is to reach on a GPU, beside what was measured there, and what was not."""
    single = [read(timings / f"{name}.json") for name in (GPU, f"{GPU}_fused")]
    columns = [
        {name: 1e3 * run["batch_size"] / run["latency_ms"][name] for name in GOALS} if run["image_size"] == 1024 else {}
        for run in single
    ]
    half = [run for path in sorted(timings.glob("*.json")) if (run := read(path))["script"] == GOALS_BY]
    columns.append(_in_bf16([run for run in half if "H100" in run["device"] and run["image_size"] == 1024]))
    fewer = _fewer_flops()
    rows = [
        [name, f"{goal:.0f}", *(_or_not(each.get(name), ".0f") for each in columns)] for name, goal in GOALS.items()
    ]
    kept = [each["h50_m70"] / each["whole"] / fewer if len(each) == len(GOALS) else None for each in columns]
    rows.append(["quicker, over fewer FLOPs", f"at least {OF_FLOPS}", *(_or_not(each, ".2f") for each in kept)])
    heads = ["encoder, images a second", "goal, bf16"]
    heads += [f"single precision, {run['attention']}, batch of {run['batch_size']}" for run in single]
    told = [
        f"{_of(single[0])}; random weights. The last line: how many times quicker h50_m70 is than the whole encoder, "
        f"over how many times fewer FLOPs it has ({fewer:.2f}).",
    ]
    if not columns[-1]:
        told.append(
            f"No record in bf16 of an H100 is there, and none of FlexAttention on a GPU: `python -m "
            f"medcore_prune.benchmarks.speed.{GOALS_BY} --model vit_b --image-size 1024 --device cuda` makes both."
        )
    return Grid("Goals on an H100", [*heads, "bf16"], rows, told)


def _in_bf16(runs: Sequence[Record]) -> dict[str, float]:
    """Images a second by the quickest way and batch, of the whole encoder and the cut one."""
    cuts = {"dense": "whole", "h50_m70": "h50_m70"}
    found: dict[str, float] = {}
    for row in (row for run in runs for row in run["rows"] if row["precision"] == "bf16" and row["cut"] in cuts):
        for name in (name for name in row if name.endswith("_ms")):
            found[cuts[row["cut"]]] = max(found.get(cuts[row["cut"]], 0.0), 1e3 * row["batch"] / row[name])
    return found


def _fewer_flops() -> float:
    """How many times fewer FLOPs the encoder of ViT-B has at h50_m70, as the paper counts them."""
    model = build_sam("vit_b", "meta")
    return count(model).flops / count(model, make_plan(model, "h50_m70")).flops


def _or_not(value: float | None, form: str) -> str:
    return "not measured" if value is None else f"{value:{form}}"


UNCHANGED = ("evaluation", "recovery", "directional, both losses")
"""Steps whose operations are today what they were when the GPU's timings were taken."""
SHARDS = 4
"""Parts of a calibration whose sums were each kept whole then."""


def _slower_than_counted(counted: Record, run: Record) -> float:
    """How many times longer than by their operations steps took that did not change, at most."""
    return max(1.0, *(run["steps"][name]["ratio"] / counted["steps"][name]["over_training"] for name in UNCHANGED))


def _quicker_when_cut(run: Record) -> float:
    """Seconds that a pruned encoder saves, the mean over the comparison's levels, each at the next milder one timed."""
    timed = {Level.parse(name): ms for name, ms in run["latency_ms"].items() if name != "whole"}
    saved = []
    for level in COMPARISON_LEVELS:
        milder = [ms for known, ms in timed.items() if known.heads <= level.heads and known.neurons <= level.neurons]
        saved.append(run["latency_ms"]["whole"] - min(milder, default=run["latency_ms"]["whole"]))
    return 1e-3 * sum(saved) / len(saved)


def _range(values: Sequence[float], digits: int = 0) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _beside(timings: Path, usual: Sequence[Usual]) -> str:
    said = []
    for each in usual:
        record = read(timings / f"{each.file}.json")
        found = record["models"][each.model] if each.model else record
        ratio = found.get(each.ratio)
        told = "not installed there" if ratio is None else _times(ratio, found.get(f"{each.ratio}_spread"))
        said.append(f"{each.says}: {told}")
    return "; ".join(said) or "–"


def _times(ratio: float, ends: Sequence[float] | None = None) -> str:
    shown = f"{_digits(ratio)} x"
    return shown if ends is None else f"{shown} ({_digits(ends[0])} to {_digits(ends[1])})"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 5 else f"{value:.2f}"


def _of(run: Record, timed: bool = True, what: bool = True) -> str:
    """What a record is of: the model, the device, threads, versions, the day, and what else there is to know."""
    machine, used = run.get("machine", {}), run.get("versions", {})
    parts = [f"{run['model']} at {run['image_size']} px"] if what else []
    if timed:
        device = machine.get("processor", run["device"]) if run["device"] == "cpu" else run["device"]
        threads = run.get("threads")
        count = f", {threads} thread{'s' if threads != 1 else ''}" if threads and run["device"] == "cpu" else ""
        parts += [f"on {device}{count}"]
    parts += [f"torch {used['torch']}" if "torch" in used else "", run["date"], run.get("note", "") if timed else ""]
    return ", ".join(part for part in parts if part)


def sources(timings: Path) -> Grid:
    """Every stored record with the script that made it, the device, the day and the versions."""
    rows = []
    for path in sorted(timings.glob("*.json")):
        name, run = path.stem, read(path)
        used, machine = run.get("versions", {}), run.get("machine", {})
        load = machine.get("load_before")
        rows.append(
            [
                f"[{name}](results/speed/{name}.json)",
                f"`{run['script']}`",
                run["device"],
                run["date"],
                used.get("torch", "–"),
                "–" if load is None else f"{load:.1f} on {machine['cores']} cores",
            ]
        )
    heads = ["record", "script", "device", "day", "torch", "load"]
    return Grid("Records", heads, rows, left=len(heads))


def read(path: Path) -> Record:
    """Read one record."""
    found: Record = json.loads(path.read_text(encoding="utf-8"))
    return found
