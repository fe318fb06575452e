"""What lies beside exported ONNX files for whoever has no medcore-prune: what goes in and comes out, and a script."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..._support.errors import WriteError
from ..._support.files import write_text_atomic
from .facts import read_facts
from .parts import PARTS

README, SEGMENT = "README.md", "segment.py"
_SCRIPT = Path(__file__).with_name("segment.py.txt")
_TEXT = """\
# A model for ONNX Runtime, exported by medcore-prune

Segments what a box encloses. It needs `onnxruntime`, `numpy` and `pillow`, and nothing else:

```bash
python {script} IMAGE X0 Y0 X1 Y1 MASK.png
```

The box is the first and last column and row of the object, in pixels of the image; the mask is as large as the image.
`{script}` reads `encoder.onnx` and `decoder.onnx` beside it{missing}. An image that is asked for several boxes needs
the encoder once. `whole.onnx`, where it is here, is the two in one, and `encoder_int8.onnx` is a smaller
`encoder.onnx`, to run one image at a time.

## How an image becomes a mask

- resize: {resize};
- values: {scale};
- prompt: {prompt};
- mask: {mask}.

## Files

{files}

The same stands in the metadata of each file, as JSON under `medcore_prune`. `comparison.json` has the differences to
PyTorch. Made by version {version}; level {level}; model {model_hash}.
"""


def refuse_others(folder: str | Path) -> None:
    """Refuse a folder whose README.md or segment.py somebody else has written, before the work."""
    for name, start in ((README, _TEXT), (SEGMENT, _SCRIPT.read_text(encoding="utf-8"))):
        place = Path(folder) / name
        first = start.partition("\n")[0]
        if place.is_file() and not place.read_bytes().startswith(first.encode()):
            raise WriteError(f"{place} is not of an export, and would be replaced: choose another folder")


def write_beside(folder: str | Path, part: str) -> None:
    """Write README.md and segment.py into a folder of what `export_onnx` wrote; whole or not at all.

    Args:
        folder: With files named after their parts; those of another model are passed over.
        part: One that is there.

    Raises:
        MedcorePruneError: The extra `onnx` is not installed, or a file is no such file.
    """
    place = Path(folder)
    found = {name: read_facts(place / f"{name}.onnx") for name in PARTS if (place / f"{name}.onnx").is_file()}
    facts = found[part]
    same = {name: each for name, each in found.items() if each["model_hash"] == facts["model_hash"]}
    text = _TEXT.format(
        script=SEGMENT,
        missing=_missing(same),
        **{name: facts["protocol"][name] for name in ("resize", "scale", "prompt", "mask")},
        files="\n".join(_described(name, each) for name, each in same.items()),
        version=facts["versions"]["medcore-prune"],
        level=facts["level"] or "none, nothing was pruned",
        model_hash=facts["model_hash"],
    )
    write_text_atomic(place / README, text)
    write_text_atomic(place / SEGMENT, _SCRIPT.read_text(encoding="utf-8"))


def _missing(found: Collection[str]) -> str:
    """Say which of the files that the script reads is not there."""
    names = " and ".join(f"`{name}.onnx`" for name in ("encoder", "decoder") if name not in found)
    return f", of which {names} {'are' if ' and ' in names else 'is'} to be exported first" if names else ""


def _described(name: str, facts: dict[str, Any]) -> str:
    lines = [f"`{name}.onnx`:", ""]
    lines += [f"- in: `{each}` {words}" for each, words in facts["inputs"].items()]
    lines += [f"- out: `{each}` {words}" for each, words in facts["outputs"].items()]
    return "\n".join([*lines, ""])
