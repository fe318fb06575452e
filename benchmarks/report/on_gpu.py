"""What `docs/how_fast.md` says of a GPU: goals, what has changed since its timings, and a full comparison on paper."""

from collections.abc import Sequence
from pathlib import Path

from ...models.segment_anything import build_sam
from ...pruning.cost import count
from ...pruning.level import COMPARISON_LEVELS, Level
from ...pruning.planning import make_plan
from .tables import Grid
from .timings import GPU, Record, about, between, read

CROSSINGS = 7
"""How often a block's stream went to the host's memory or back in the correction that the GPU's timings are of."""
SHARDS = 4
"""Parts of a calibration whose sums were each kept whole then."""


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
    what = about(counted, False)
    told = [f"Operations and runs: {what}; a correction at {counted['level']}. Not run on a GPU since."]
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
            between(now, 3),
            f"{count * then / 60:.0f}",
            between([count * each / 60 for each in now]),
        ]
        for name, count, then, now in parts
    ]
    ends = [sum(count * choose(now) for _, count, _, now in parts) / 60 for choose in (min, max)]
    rows.append(
        ["**all**", "", "", "", f"**{sum(count * then for _, count, then, _ in parts) / 60:.0f}**", between(ends)]
    )
    heads = ["part", "images", "seconds each, then", "by counts now", "minutes then", "by counts now"]
    told = [
        f"`baselines --full`: {work['methods']} methods, {work['levels']} levels, three sets with 128 calibration, 64 "
        f"correction and 100 test images each; {work['evaluated_plans']} plans are evaluated, "
        f"{work['corrected_plans']} of them corrected. {about(run)}.",
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
        f"{about(single[0])}; random weights. The last line: how many times quicker h50_m70 is than the whole encoder, "
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
