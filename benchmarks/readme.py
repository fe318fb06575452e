"""Write the generated tables into README.md and the docs: `python -m medcore_prune.benchmarks.readme`."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .._support.errors import MedcorePruneError
from .._support.files import write_text_atomic
from ..commands.cli import COMMANDS as TOOL
from ..evaluation.evaluate import macro_average
from ..evaluation.intervals import INDICATIVE_BELOW, paired_difference
from .cli import COMMANDS as BENCH
from .experiments.claims import CLAIMS
from .report import how_fast, on_gpu
from .report.listing import criteria, methods
from .report.tables import Grid
from .speed.int8 import FLOAT, RECIPES

PAGES: Mapping[str, tuple[str, ...]] = {
    "README.md": ("before_after", "claims"),
    "docs/compress.md": ("workflow",),
    "docs/how_fast.md": ("steps", "growth", "memory", "predicted", "goals", "since", "full", "records"),
    "docs/laptop.md": ("int8",),
    "docs/lite_medsam.md": ("lite_medsam",),
    "docs/methods.md": ("methods",),
    "docs/tool.md": ("commands",),
}
"""The blocks of each page, by its place under the project's root."""


def marks(name: str) -> tuple[str, str]:
    """The two comments between which a block of tables stands."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def commands() -> Grid:
    """Every command with the first sentence of its help."""
    rows = []
    for program, listed in (("medcore-prune", TOOL), ("medcore-bench", BENCH)):
        rows += [[f"`{program} {name}`", known.says] for name, known in listed.items()]
    return Grid("Commands", ["command", "does"], rows, left=2)


def claims(results: Path) -> Grid:
    """The verdict on every claim of the paper in each stored folder of results."""
    found = _read(results / "claims" / "claims.json")
    rows = [
        [
            claim.title,
            *(str((each["claims"][claim.title] or {"verdict": "not run"})["verdict"]) for each in found.values()),
        ]
        for claim in CLAIMS
    ]
    return Grid("The paper's claims, measured here", ["claim", *found], rows, left=1 + len(found))


BEFORE, ALIKE, RUNTIME = "adapted unpruned", "adapted unpruned, recovered alike", "ONNX Runtime"
SHOWN = {
    BEFORE: "before: LiteMedSAM, fine-tuned on polyps",
    "uniform -53 %": "after: half of it gone, *corrected* without labels",
    "uniform -53 %, recovered": "after: then *recovered*, trained with labels",
    "floor: ellipse": "*floor*: the ellipse in the box, no network",
}
"""The rows of README's first table, by the model's name in the stored results, and what they are called there."""


def _lite_medsam_files(results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what every image scored, and the times on one thread by model and runtime."""
    place = results / "lite_medsam"
    images, times = (pd.read_csv(place / name) for name in ("corrected/images.csv", "latency/latency.csv"))
    return images, times[times["threads"] == 1].set_index(["model", "runtime"])


def before_after(results: Path) -> Grid:
    """What a cut takes and leaves, in one look: LiteMedSAM whole, halved, and halved and trained, over a floor."""
    images, times = _lite_medsam_files(results)
    of = {str(name): table for name, table in images.groupby("model")}
    rows = []
    for name, title in SHOWN.items():
        means = macro_average(of[name])
        cells = ["–", "–"]
        if not name.startswith("floor"):
            # a training changes no size
            cost: Any = times.loc[(name.partition(",")[0], RUNTIME)]
            cells = [f"{cost['encoder_params'] / 1e6:.2f} M", f"{cost['encoder_median_ms']:.0f}"]
        compared = name != BEFORE and not name.startswith("floor")
        change = paired_difference(of[name], of[BEFORE], "bf1") if compared else None
        shown = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})" if change else "–"
        rows.append([title, *cells, f"{means['dice']:.3f}", f"{means['bf1']:.3f}", shown])
    heads = ["", "encoder parameters", "ms", "Dice", "Boundary F1", "change of Boundary F1 (95 % interval)"]
    return Grid("Before and after", heads, rows, [_measured_on(of), _second_pair(results), _on_a_gpu(results)])


def _measured_on(of: Mapping[str, pd.DataFrame]) -> str:
    whole, alike = of[BEFORE], macro_average(of[ALIKE])
    groups = int(whole.groupby("dataset")["group"].nunique().min())
    few = f"; with {groups} groups of images in the smaller set the intervals are indicative only"
    return (
        f"Real polyps, {whole['name'].nunique()} test images of {whole['dataset'].nunique()} sets"
        f"{few if groups < INDICATIVE_BELOW else ''}. Milliseconds: the encoder under ONNX Runtime, one image, one CPU "
        f"thread. The whole model, trained for as long as the recovered one, has Boundary F1 {alike['bf1']:.3f}."
    )


def _second_pair(results: Path) -> str:
    """What half of its encoder cost the pair that was fine-tuned with more care, searched and not, without training."""
    images = pd.read_csv(results / "lite_medsam" / "searched" / "images.csv")
    of = {str(name): table for name, table in images.groupby("model")}
    whole, published = (of[name]["bf1"].mean() for name in ("unpruned", "lite_medsam"))

    def change(name: str, to: str = "unpruned") -> str:
        found = paired_difference(of[name], of[to], "bf1")
        return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"

    return (
        "Not every model loses so little: a second one, fine-tuned with more care and better (Boundary F1 "
        f"{whole:.3f} on {len(of['unpruned'])} test images of Kvasir-SEG, where the published one has {published:.3f}"
        f"), changes, corrected, by {change('searched -50 %')} where a search says what half of it goes, and by "
        f"{change('same share -50 %')} where the same share of every block does, "
        f"{change('searched -50 %', 'same share -50 %')} between both "
        "([report](docs/results/lite_medsam/searched/report.md))."
    )


def _on_a_gpu(results: Path) -> str:
    run = _read(results / "speed" / "workflow_vit_b_h100.json")
    whole, cut = (run["latency_ms"][level] for level in ("whole", "h50_m70"))
    return (
        f"On a GPU: the encoder of SAM ViT-B at {run['image_size']} px takes {cut:.0f} ms in place of {whole:.0f} "
        f"with half of its heads and 70 % of its neurons gone ({run['device']}; random weights, so time alone)."
    )


def lite_medsam(results: Path) -> Grid:
    """Size, time and contour of LiteMedSAM before and after, where it was evaluated and timed."""
    images, times = _lite_medsam_files(results)
    # a training changes no size: "x, recovered" takes the time of "x"
    sized = {name: name.partition(",")[0] for name in dict.fromkeys(images["model"])}
    known = set(times.index.get_level_values("model"))
    rows = []
    for name, of in ((name, of) for name, of in sized.items() if of in known):
        means = macro_average(images[images["model"] == name])
        by = {runtime: times.loc[(of, runtime)] for runtime in (RUNTIME, f"{RUNTIME} int8")}
        cells = [f"{by[RUNTIME]['encoder_params'] / 1e6:.2f}"]
        cells += [f"{of['encoder_median_ms']:.0f}" for of in by.values()]
        rows.append([name, *cells, *(f"{means[metric]:.3f}" for metric in ("dice", "bf1")), f"{means['hd95_px']:.1f}"])
    heads = ["model", "encoder, M params", "ms", "ms, int8", "Dice", "Boundary F1", "HD95 px"]
    sets = images["dataset"].unique()
    told = [
        f"{images['name'].nunique()} test images of {len(sets)} sets; research use, not a clinical result. "
        "Milliseconds: the encoder under ONNX Runtime, one image, one thread; scores are those of the float model. "
        "*uniform* takes the same share of every block, *searched* what a search found; corrected on unlabelled images "
        "but for *recovered*, which is trained besides."
    ]
    return Grid("LiteMedSAM on real polyps, cut and corrected without training, and recovered", heads, rows, told)


def workflow(results: Path) -> Iterable[Grid]:
    """What each step took where `speed.workflow` was run, and how much quicker the pruned encoders were."""
    found = map(_read, sorted((results / "speed").glob("workflow_*.json")))
    runs = [run for run in found if run["device"] != "cpu"]
    runs.sort(key=lambda run: run["batch_size"])
    first = runs[0]
    heads = [f"{run['attention']}, batch of {run['batch_size']}" for run in runs]
    steps = sorted(first["steps"], key=lambda step: float(first["steps"][step]["seconds"]))
    rows = [[step, *(_cost(run["steps"][step]) for run in runs)] for step in steps]
    where = f"{first['model']} at {first['image_size']} px on {first['device']}, torch {first['versions']['torch']}"
    told = [f"{where}. Seconds an image, how many times a training step's that is, and the peak of memory."]
    yield Grid("Each step on a GPU", ["step", *heads], rows, told)
    times = [[level, *(_time(run, level) for run in runs)] for level in first["latency_ms"] if level != "whole"]
    whole = ["whole", *(f"{run['latency_ms']['whole']:.0f} ms" for run in runs)]
    told = [f"{where}. Milliseconds a batch, and how many times the unpruned encoder's that is."]
    yield Grid("The pruned encoder's forward pass", ["level", *heads], [whole, *sorted(times)], told)


def _cost(step: Mapping[str, float]) -> str:
    return f"{step['seconds']:.2f} s, {step['ratio']:.2f} x, {step['peak_mb'] / 1e3:.1f} GB"


def _time(run: Mapping[str, Any], level: str) -> str:
    return f"{run['latency_ms'][level]:.0f} ms, {run['latency_ratio'][level]:.2f} x"


def int8(results: Path) -> Iterable[Grid]:
    """What each way of quantising an encoder costs and gives, where `speed.int8` was run."""
    for run in (_read(path) for path in sorted((results / "speed").glob("int8_*.json"))):
        judged = any(each["differences"] for each in run["recipes"].values())
        rows = [
            [
                name,
                f"{each['linears']} + {each['convolutions']}",
                f"{each['file_mb']:.1f}",
                f"{each['time_ratio']:.2f}",
                f"{each['relative_rms']:.3f}",
                *([_difference(name, each["differences"])] if judged else []),
            ]
            for name, each in ((name, run["recipes"][name]) for name in (FLOAT, *RECIPES))
        ]
        heads = [
            "recipe",
            "layers in int8",
            "MB",
            "time / float",
            "rms difference",
            *(["BF1 - float"] if judged else []),
        ]
        where, threads = run["machine"]["processor"], run["threads"]
        told = [
            f"{where}, {threads} thread{'s' if threads != 1 else ''}, onnxruntime {run['versions']['onnxruntime']}; "
            f"medians of {run['rounds']} rounds in which all took turns. Layers: linear + convolutions."
        ]
        yield Grid(f"{run['model']} at {run['image_size']} px", heads, rows, told)


def _difference(name: str, of: Mapping[str, Sequence[float]]) -> str:
    if "bf1" not in of:
        return "" if name == FLOAT else "refused"
    value, low, high = of["bf1"]
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "commands": lambda _: commands().markdown(),
    "claims": lambda results: claims(results).markdown(),
    "before_after": lambda results: before_after(results).markdown(),
    "lite_medsam": lambda results: lite_medsam(results).markdown(),
    "methods": lambda _: f"{methods().markdown().strip()}\n\n{criteria().markdown()}",
    "workflow": lambda results: "\n\n".join(grid.markdown().strip() for grid in workflow(results)),
    "steps": lambda results: how_fast.steps(results / "speed").markdown(),
    "growth": lambda results: how_fast.growth(results / "speed").markdown(),
    "memory": lambda results: how_fast.memory(results / "speed").markdown(),
    "predicted": lambda results: how_fast.predicted(results / "speed").markdown(),
    "goals": lambda results: on_gpu.goals(results / "speed").markdown(),
    "since": lambda results: on_gpu.since(results / "speed").markdown(),
    "full": lambda results: on_gpu.full(results / "speed").markdown(),
    "records": lambda results: how_fast.sources(results / "speed").markdown(),
    "int8": lambda results: "\n\n".join(grid.markdown().strip() for grid in int8(results)),
}
"""What makes the text of each block, of the folder of results."""


def with_tables(text: str, names: Iterable[str], results: Path) -> str:
    """Return a page's text with the tables between its markers made anew; `names` are those of `BLOCKS`."""
    for name in names:
        opening, closing = marks(name)
        head, start, rest = text.partition(opening)
        _, end, tail = rest.partition(closing)
        if not (start and end):
            raise MedcorePruneError(
                f"expected the markers {opening} and {closing}: put them where the tables should stand"
            )
        text = f"{head}{opening}\n\n{BLOCKS[name](results).strip()}\n\n{closing}{tail}"
    return text


def renewed(root: Path) -> dict[Path, str]:
    """Return what every page of the project at `root` should read, by its path."""
    texts = {root / page: (root / page).read_text(encoding="utf-8") for page in PAGES}
    return {
        path: with_tables(text, names, root / "docs" / "results")
        for (path, text), names in zip(texts.items(), PAGES.values(), strict=True)
    }


if __name__ == "__main__":
    for place, content in renewed(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        write_text_atomic(place, content)
