"""The tables of `docs/how_fast.md`, from what the scripts of `benchmarks.speed` stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .tables import Grid
from .timings import CPU, GPU, Record, about, read


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
        f"CPU: {about(on_cpu)}, batch of {on_cpu['batch_size']}, {on_cpu['images']} images; one forward and backward "
        f"pass of an image takes {1e3 * on_cpu['steps']['training']['seconds']:.0f} ms. GPU: {about(on_gpu)}, batch of "
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
        f"{about(run)}. In forward and backward passes of one image ({run['pass_ms']:.0f} ms): slope and start of the "
        "line through the medians, and how far a median lies from it at most, as a share of the longest. A comparison "
        "scores, plans, cuts, corrects on 4 images and evaluates on 4; the levels of a method are corrected together."
    ]
    return Grid("One more", heads, rows, told, left=3)


def memory(timings: Path) -> Grid:
    """The peak of memory over many images beside what their inputs would take."""
    rows, told = [], []
    for run in map(read, sorted(timings.glob("memory*.json"))):
        columns = (run[name] for name in ("counts", "opened_mb", "peaks_mb", "inputs_mb"))
        rows += [
            [f"{run['size']} px", f"{count:,}", f"{opened:,.0f} MB", f"{peak:,.0f} MB", f"{inputs:,.0f} MB"]
            for count, opened, peak, inputs in zip(*columns, strict=True)
        ]
        each = run["kb_an_image"]
        grows = f"grows by {each:.1f} kB an image" if each > 0 else "does not grow"
        told.append(f"{run['size']} px: {about(run, what=False)}; from the first line to the last the peak {grows}.")
    told.append(
        "Files of as many pixels a side, no two alike: a program of its own opens the folder and reads all of it into "
        f"batches of {run['batch_size']}, and some again, keeping {run['kept_mb']:.0f} MB. No encoder ran."
    )
    heads = ["side", "images", "peak when the folder is open", "peak when all are read", "their inputs in float32"]
    return Grid("Memory over many images", heads, rows, told)


def predicted(timings: Path) -> Grid:
    """Time that block times predict of cuts beside what the cuts took."""
    run = read(timings / "sizes_pocket.json")
    rows = [
        [level, f"{found['predicted']:.1%}", f"{found['removed']:.1%}", f"{found['error']:+.1%}"]
        for level, found in run["predicted"].items()
    ]
    farthest = max(abs(found["error"]) for found in run["predicted"].values())
    told = [
        f"The encoder of {about(run)}, batch of {run['batch_size']}; medians of {run['repeats']} rounds in which whole "
        f"and cut took turns. No level is farther off than {farthest:.1%} of the time of the cut encoder.",
    ]
    heads = ["level", "time that goes, predicted", "measured", "predicted time of what is left, off by"]
    return Grid("Predicted latency", heads, rows, told)


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
