"""A model card: what a pruned file is, from what its header says and what an evaluation measured, and nothing else.

Markdown with the front matter of Hugging Face's Hub, in JSON's spelling of YAML.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._support.errors import MetricError
from ..evaluation.figures import Figures
from ..evaluation.intervals import INDICATIVE_BELOW
from ..evaluation.metrics import HIGHER_IS_BETTER
from .header import PrunedHeader
from .pruned import read_header

_TITLES = {"dice": "Dice", "iou": "IoU", "bf1": "Boundary F1", "hd95_px": "HD95, px"}
_UNKNOWN, _NOT_MEASURED = "not stated", "not measured"


def model_card(
    path: str | Path, figures: Figures | None = None, *, license: str | None = None, address: str | None = None
) -> str:
    """Write the card of a file that `save` wrote.

    Every figure stands in the file's header or in `figures`; what is in neither is said to be not measured, or not
    stated.

    Args:
        path: The file.
        figures: What an evaluation measured of this very model: `read_figures`.
        license: Its licence, in the Hub's spelling (`apache-2.0`); the file does not hold it.
        address: Where on the Hub it is to lie, `hf://user/name`.

    Returns:
        Markdown with front matter.

    Raises:
        CheckpointError: No such file.
        MetricError: The figures are those of another model.
    """
    header = read_header(path)
    if figures is not None and figures.model_hash != header.model_hash:
        raise MetricError(
            f"the figures are of the model {figures.model_hash[:12]}, {path} holds {header.model_hash[:12]}: evaluate "
            "this file"
        )
    name = (address or Path(path).stem).rpartition("/")[2]
    front = _front(name, header, figures, license)
    parts = [
        "\n".join(["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()), "---"]),
        f"# {name}",
        "Segments what a box encloses. For research; no medical device, and nothing here is a clinical result.",
        "## What it is\n\n" + _list(_identity(header)),
        "## What it was made from\n\n" + _list(_origin(header.provenance)),
        "## Images\n\n" + "\n".join(_images(header)),
        "## Figures\n\n" + "\n".join(_figures(header, figures)),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(header, figures)),
        f"## Licence\n\n{license or _UNKNOWN}. The licences of the parent's weights and of the images hold too.",
        "## How to load it\n\n" + _load(Path(path).name, address),
    ]
    return "\n\n".join(parts) + "\n"


_COMMANDS = """\
```bash
pip install medcore-prune
medcore-prune predict {file} image.png --box 10,20,80,90
```

"""
_PYTHON = """\
```python
import medcore_prune as mp

model = mp.load("{place}")
mask = mp.Predictor(model).set_image("image.png").predict((10, 20, 80, 90))
```

Weights and a JSON header in one safetensors file; nothing in it is executed."""


def _load(file: str, address: str | None) -> str:
    if address is None:
        return (_COMMANDS + _PYTHON).format(file=file, place=file)
    return '```bash\npip install "medcore-prune[hub]"\n```\n\n' + _PYTHON.format(place=address)


def _front(name: str, header: PrunedHeader, figures: Figures | None, license: str | None) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "medcore-prune",
        "pipeline_tag": "image-segmentation",
        "tags": ["segment-anything", "medical", "pruning", header.kind],
    }
    if license:
        front["license"] = license
    if figures is not None:
        on = {"type": "synthetic" if figures.phantoms else "private", "name": ", ".join(figures.images)}
        metrics = [
            {"type": metric, "name": f"{_TITLES[metric]} ({_what(figures)})", "value": round(each.value, 6)}
            for metric, each in figures.metrics.items()
        ]
        result = {"task": {"type": "image-segmentation"}, "dataset": on, "metrics": metrics}
        front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _what(figures: Figures) -> str:
    """Which images it was measured on, in words."""
    return f"{'synthetic ' if figures.phantoms else ''}{figures.role} images"


def _list(rows: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())


def _identity(header: PrunedHeader) -> dict[str, Any]:
    plan, protocol = header.plan, header.protocol
    return {
        "kind": header.kind,
        "level": f"{plan.level} (heads and MLP neurons removed, in per cent)",
        "input side": (header.shape or {}).get("image_size", _UNKNOWN),
        "images": f"{protocol['resize']}; {protocol['scale']}" if protocol else _UNKNOWN,
        "prompt": protocol.get("prompt", _UNKNOWN),
        "mask": protocol.get("mask", _UNKNOWN),
        "SHA-256 of the model": f"`{header.model_hash}`",
    }


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    parents = {
        f"{role} model": f"SHA-256 `{each['sha256']}`"
        for role in ("adapted", "reference")
        if isinstance(each := provenance.get(role), Mapping) and "sha256" in each
    }
    version, torch = (provenance.get(name, _UNKNOWN) for name in ("medcore_prune", "torch"))
    return {
        **(parents or {"parent": _UNKNOWN}),
        "what chose the units": provenance.get("method") or _UNKNOWN,
        "refitted without labels": "yes" if provenance.get("corrected") else _said(provenance, "corrected"),
        "trained after the cut": _recovered(provenance),
        "made by": f"medcore-prune {version}, torch {torch}",
    }


def _said(provenance: Mapping[str, Any], name: str) -> str:
    return "no" if name in provenance else _UNKNOWN


def _recovered(provenance: Mapping[str, Any]) -> str:
    found = provenance.get("recovered")
    if not isinstance(found, Mapping):
        return _said(provenance, "recovered")
    return f"yes, {found.get('outcome', _UNKNOWN)}"


def _images(header: PrunedHeader) -> Iterator[str]:
    roles = header.provenance.get("data")
    rows = [
        f"| {role} | {name}{', synthetic' if of.get('synthetic') else ''} | {of.get('images', _UNKNOWN)} | "
        f"`{str(of.get('sha256', _UNKNOWN))[:16]}` |"
        for role, sets in (roles.items() if isinstance(roles, Mapping) else ())
        for name, of in (sets.items() if isinstance(sets, Mapping) else ())
    ]
    if not rows:
        yield f"Which images it was made with is {_UNKNOWN}."
        return
    yield from ("| part of the split | data set | images | SHA-256 |", "|---|---|---|---|", *rows, "")
    yield "It was made for images like these, and nothing is known of others."


def _figures(header: PrunedHeader, figures: Figures | None) -> Iterator[str]:
    cost = header.provenance.get("cost")
    if isinstance(cost, Mapping) and {"params_before", "params_after", "flops_before", "flops_after"} <= set(cost):
        yield "| encoder | before | after |\n|---|---|---|"
        yield f"| parameters, M | {cost['params_before'] / 1e6:.2f} | {cost['params_after'] / 1e6:.2f} |"
        yield f"| FLOPs, G | {cost['flops_before'] / 1e9:.2f} | {cost['flops_after'] / 1e9:.2f} |\n"
    else:
        yield f"Cost of the encoder: {_NOT_MEASURED}.\n"
    if figures is None:
        yield f"Masks: {_NOT_MEASURED}."
        return
    floors = list(figures.floors)
    titles = [_what(figures), "this model", "95 % interval", *(f"floor: {floor}" for floor in floors)]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * (3 + len(floors)) + "|"
    for metric, title in _TITLES.items():
        form = ".2f" if metric == "hd95_px" else ".4f"
        found = figures.metrics.get(metric)
        cells = [_NOT_MEASURED, ""]
        if found:
            cells = [f"{found.value:{form}}", f"{found.low:{form}} to {found.high:{form}}"]
        beside = [figures.floors[floor].get(metric) for floor in floors]
        yield f"| {' | '.join([title, *cells, *(_NOT_MEASURED if n is None else f'{n:{form}}' for n in beside)])} |"
    counts = ", ".join(f"{of.images} of {name} (`{of.sha256[:16]}`)" for name, of in figures.images.items())
    yield f"\nMeans over data sets: {counts}. Intervals: bootstrap over groups of images. Floors are answers without a"
    size = figures.grid
    grid = "each image's own grid" if size == "original" else f"a grid of {size} x {size} pixels"
    yield f"model: the box itself, and the ellipse in it. Masks compared on {grid}; Boundary F1 within"
    yield f"{figures.tolerance_px:g} px of the 256 grid."


def _limits(header: PrunedHeader, figures: Figures | None) -> Iterator[str]:
    yield "One box a mask; without a box it segments nothing."
    if figures is None:
        yield "How good its masks are was not measured: evaluate it on images of yours first."
    else:
        if figures.phantoms:
            yield "It was measured on synthetic images (drawn phantoms), which say nothing of real ones."
        if figures.role != "test":
            yield f"It was measured on {figures.role} images, on which choices may have been made: no test."
        if few := [name for name, of in figures.images.items() if of.groups < INDICATIVE_BELOW]:
            yield f"Fewer than {INDICATIVE_BELOW} groups of images in {', '.join(few)}: intervals are indicative only."
        if worse := _below_floor(figures):
            yield f"No better than an answer without a model in {', '.join(worse)}."
    if header.plan.level != "h0_m0":
        yield "Units were removed for images like those above; images of another kind may lose more."


def _below_floor(figures: Figures) -> list[str]:
    found = []
    for metric, each in figures.metrics.items():
        sign = 1 if HIGHER_IS_BETTER[metric] else -1
        if any(metric in floor and sign * each.value <= sign * floor[metric] for floor in figures.floors.values()):
            found.append(_TITLES[metric])
    return found
