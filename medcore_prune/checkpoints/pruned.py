"""Pruned models as files: one safetensors file that holds all there is to build the model again.

Weights beside a JSON header in the file's metadata (`pruned_header`); nothing in it is executed, and the checkpoints
that the model came from are not needed again.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from .._support.devices import require_device
from .._support.errors import CheckpointError, MedcorePruneError
from .._support.files import atomic_write
from .._support.registry import failures_named
from .._support.tensor_file import TensorFile
from .._support.torch_file import unshared
from .._support.version import __version__
from ..models.calls.call import on_models
from ..models.families import FAMILIES, blocks_of, can_build, family_of, geometry_of, untrained
from ..models.family import BuildingFamily, EncoderFamily
from ..models.fingerprint import kind_of_part, model_hash, settings_of
from ..models.pairs import remember_place
from ..models.sam_shape import kind_of
from ..models.segment_anything import SegmentAnythingFamily, shape_of
from ..pruning.plan import BlockPlan, Plan, sizes_before, sizes_left, sizes_of
from ..pruning.surgery import Lineage, lineage_of, prune, remember
from .header import PADDED, PIXEL_SCALE, PROTOCOL, PrunedHeader, is_pixel_scale, is_sam_kind
from .hub import fetch, is_address

SAM = SegmentAnythingFamily.name
_FLOATING = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_WHOLE = {"U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64}
_DTYPES = {**_FLOATING, **_WHOLE, "BOOL": torch.bool}


@on_models("model", refuse=None)
def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    plan: Plan | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a model, pruned or not, as one file that `load` builds it from; whole or not at all.

    Args:
        model: A whole `Sam`, or a model of another known family, on any device, in any floating type, which is kept.
        path: A name that ends in `.safetensors`.
        plan: What was cut, in the indices of the whole model. None takes what the model remembers: `prune` tells it,
            also where it was pruned twice, and `traceable` and `load` do.
        provenance: JSON values worth keeping, added to those that a loaded model remembers: hashes of the parents and
            of the images, criterion, level. The package's version is added.

    Raises:
        CheckpointError: No such model, weights that are not finite, a cut that no plan explains, or provenance that
            is no JSON.
    """
    place = Path(path)
    if place.suffix != ".safetensors":
        raise CheckpointError(f"{place}: expected a name that ends in .safetensors")
    header = _header_of(model, plan, provenance or {})
    state = unshared({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    _check_finite(place, state)
    if header.shape is not None:
        built = _built(place, header)
        _check_rebuilt(model, built)
        _check_fits(place, built, {name: (tuple(value.shape), value.dtype) for name, value in state.items()})
    with atomic_write(place) as temporary:
        save_file(state, temporary, metadata=header.encode())


@on_models("into", refuse=None)
def load(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", *, into: nn.Module | None = None
) -> nn.Module:
    """Build a model from what `save` wrote; its outputs are those of the saved one, bit for bit.

    The structure is built without memory and checked against the file before a weight is read. Half precision stays
    half: a `Sam` computes in float32, so call `.float()` on a half one to run it.

    The model follows MedSAM's protocol (`Predictor`, `evaluate`). It runs under segment-anything's own `SamPredictor`,
    with the `pixel_mean` and `pixel_std` that it was saved with. Those of `load_sam` are 0 and 255, which make that
    predictor's normalisation a plain scaling to [0, 1] rather than SAM's mean and deviation. What remains different is
    that it scales the long side and pads instead of resizing to a square, and that each image's own range is not
    stretched to [0, 1]; expect masks a little worse than `Predictor`'s there, and the same kind on square images of
    full range.

    Args:
        path: What `save` wrote, or where on the Hub it lies: `hf://user/name`, `hf://user/name@revision` to always get
            the same; that needs the extra `hub`.
        device: Where the model goes.
        into: The unpruned model of another library (`SamModel(config)`, `timm.create_model(...)`), with any weights, of
            which a copy is cut and filled; a `Sam`, and a model of a family that builds its own, need none.

    Returns:
        A `Sam`, or a model like `into`, in evaluation mode. It remembers its plan and provenance, so that it can be
        pruned, recovered and saved again.

    Raises:
        MedcorePruneError: A device that cannot be used here.
        CheckpointError: Lacks `into`, or it does not fit. Missing, truncated, of another kind or of a newer format, a
            header that was changed or does not fit the tensors, or weights that are damaged or not finite.
    """
    require_device(device)
    place = fetch(str(path)) if is_address(path) else Path(path)
    with _opened(place, device) as (file, header):
        names = list(file.keys())
        found = {name: _slice_kind(place, file, name) for name in names}
        model = _fitting(place, header, found) if header.shape is not None else _cut(place, header, found, into)
        # a copy: the file may be replaced while the model is in use
        state = {name: file.get_tensor(name).clone() for name in names}
    _check_finite(place, state)
    if is_sam_kind(header.kind):
        model.load_state_dict(state, assign=True)
    else:
        _fill(model, state, device)
    _set_protocol(place, model.eval(), header)
    if model_hash(model) != header.model_hash:
        raise CheckpointError(f"{place}: the weights are not those that were written: copy or write the file anew")
    remember_place(model, place)
    remember(model, Lineage(header.plan, header.provenance))
    return model


def _set_protocol(path: Path, model: nn.Module, header: PrunedHeader) -> None:
    """Give a model its own pixel scale, and refuse a file whose protocol this version does not give it."""
    if not header.protocol:
        return
    if header.protocol.get("resize") != protocol_of(model).get("resize"):
        raise CheckpointError(
            f"{path}: its images are to be resized otherwise than this version does for its family, "
            f"{str(header.protocol.get('resize'))[:100]!r}: upgrade medcore-prune to read it"
        )
    kept = next(model.parameters())
    for name in PIXEL_SCALE:
        # not among the weights, so that building without memory left them empty
        value = torch.tensor(header.protocol[name], dtype=kept.dtype, device=kept.device)
        model.register_buffer(name, value.view(-1, 1, 1), persistent=False)


def _fill(model: nn.Module, state: Mapping[str, Tensor], device: str | torch.device) -> None:
    kinds = {name: value.dtype for name, value in state.items()}
    model.to(device=device, dtype=next((kind for kind in kinds.values() if kind.is_floating_point), None))
    for name, value in model.state_dict(keep_vars=True).items():
        # the tensors stay what they are: parameters that two modules share stay shared
        value.data = value.data.to(kinds[name])
    model.load_state_dict(state)


def read_header(path: str | os.PathLike[str]) -> PrunedHeader:
    """Read what a file says about its model, without its weights; refused as by `load`."""
    with _opened(Path(path), "cpu") as (_, header):
        return header


def _header_of(model: nn.Module, plan: Plan | None, provenance: Mapping[str, Any]) -> PrunedHeader:
    try:
        family = family_of(model)
        shape, whole = None, None
        if can_build(family):
            shape = dict(family.settings(model))
            whole = sizes_of(_whole(family, shape))
    except MedcorePruneError as error:
        raise CheckpointError(f"cannot be saved: {error}") from error
    known = lineage_of(model)
    if plan is None:
        plan = known.plan or _whole_plan(whole or sizes_of(model))
        _check_remembered(plan, model, whole)
    _check_explains(plan, model, whole)
    kept = {**known.provenance, **provenance, "medcore_prune": __version__}
    kind = kind_of(shape_of(model)) if family.name == SAM else family.name
    protocol = protocol_of(model)
    _check_pixel_scale(protocol)
    return PrunedHeader(kind, shape, plan, kept, model_hash(model), protocol)


def protocol_of(model: nn.Module) -> dict[str, Any]:
    """How images and boxes become inputs of a `Sam`, and its outputs masks, for whoever reads its file; else nothing.

    `pixel_mean` and `pixel_std` are the model's own.
    """
    if not hasattr(model, "prompt_encoder") or not all(hasattr(model, name) for name in PIXEL_SCALE):
        return {}
    own: dict[str, list[float]] = {name: model.get_buffer(name).flatten().tolist() for name in PIXEL_SCALE}
    of_family: Mapping[str, Any] = getattr(family_of(model), "protocol", {})
    return {**PROTOCOL, **(PADDED if geometry_of(model).padded else {}), **of_family, **own}


def _whole(family: BuildingFamily, shape: Mapping[str, Any], device: str = "meta") -> nn.Module:
    """Build the unpruned model, on the meta device without taking memory."""
    with failures_named(f"family {family.name}", CheckpointError):
        return untrained(lambda: family.build(shape), device, seed=0)


def _check_pixel_scale(protocol: Mapping[str, Any]) -> None:
    for name in PIXEL_SCALE:
        if name in protocol and not is_pixel_scale(name, protocol[name]):
            raise CheckpointError(
                f"cannot be saved: {name} is {str(protocol[name])[:60]}, expected three {PIXEL_SCALE[name]}, one for "
                "each of R, G and B"
            )


def _check_rebuilt(model: nn.Module, built: nn.Module) -> None:
    """Refuse a model that is made of other parts than the header's shape tells, which would load as another model."""
    parts, expected = dict(model.named_modules()), dict(built.named_modules())
    for name in sorted(parts.keys() | expected.keys()):
        have, want = (_described(of.get(name)) for of in (parts, expected))
        # settings that the family's own part does not know decide nothing
        if wrong := [what for what in want if have.get(what) != want[what]]:
            told, other = (
                " ".join(texts[what] for what in dict.fromkeys(("class", *wrong)) if what in texts)
                for texts in (have, want)
            )
            raise CheckpointError(
                f"cannot be saved: {name} is {told}, where {family_of(model).name.replace('_', '-')} has {other}; keep "
                "this model with torch.save"
            )


def _described(part: nn.Module | None) -> dict[str, str]:
    """What a part is, its parameters and its settings, each as text."""
    if part is None:
        return {"class": "nothing"}
    own = ", ".join(sorted(name for name, _ in part.named_parameters(recurse=False))) or "no parameters"
    settings = {name: f"{name}={text}" for name, text in settings_of(part).items()}
    return {"class": kind_of_part(part).__name__, "parameters": f"with {own}", "forward": "forward=its own", **settings}


def _whole_plan(sizes: Sequence[tuple[int, int]]) -> Plan:
    """The plan that keeps everything."""
    blocks = (BlockPlan(index, h, n, tuple(range(h)), tuple(range(n))) for index, (h, n) in enumerate(sizes))
    return Plan("h0_m0", tuple(blocks))


def _check_remembered(plan: Plan, model: nn.Module, whole: Sequence[tuple[int, int]] | None) -> None:
    """Refuse a model that was cut where nothing took down what stayed, for the header says it by original index."""
    now = sizes_of(model)
    if whole is None or (sizes_before(plan) == list(whole) and sizes_left(plan) == now):
        return
    index = next((index for index, sizes in enumerate(now) if sizes != whole[index]), 0)
    raise CheckpointError(
        f"cannot be saved: block {index} has {now[index][0]} heads and {now[index][1]} neurons, a whole Sam has "
        f"{whole[index][0]} and {whole[index][1]} (four a channel), and what went otherwise than by prune is not "
        "known: give plan=, hand the whole model to prune or traceable to be cut, or keep it with torch.save"
    )


def _check_explains(plan: Plan, model: nn.Module, whole: Sequence[tuple[int, int]] | None) -> None:
    """Refuse a plan that is for another whole model, where its sizes are known, or that leaves something else."""
    if whole is not None and sizes_before(plan) != list(whole):
        raise CheckpointError(
            f"the plan is not for the whole model, whose blocks have {whole[0][0]} heads and {whole[0][1]} neurons "
            "(four a channel, as every Sam): give the one in its indices (Plan.then combines two), or leave plan out "
            "for a model that prune alone has cut"
        )
    for block, expected in zip(blocks_of(model), sizes_left(plan), strict=True):
        if (block.num_heads, block.neurons) != expected:
            raise CheckpointError(
                f"the plan does not explain the model: block {block.index} has {block.num_heads} heads and "
                f"{block.neurons} neurons, the plan leaves {expected[0]} and {expected[1]}: give the plan that cut it"
            )


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{path}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}; expected finite weights: prune anew"
        )


@contextmanager
def _opened(path: Path, device: str | torch.device) -> Iterator[tuple[Any, PrunedHeader]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected one that medcore_prune.save wrote")
    try:
        with TensorFile(path, device=str(device)) as file:
            yield file, PrunedHeader.decode(path, file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(
            f"{path}: expected a file that medcore_prune.save wrote; damaged, truncated or something else "
            f"({reason}); a SAM checkpoint loads with medcore_prune.load_sam"
        ) from error


def _slice_kind(path: Path, file: Any, name: str) -> tuple[tuple[int, ...], torch.dtype]:
    part = file.get_slice(name)
    dtype = part.get_dtype()
    if dtype not in _DTYPES:
        raise CheckpointError(f"{path}: {name} is {dtype}, expected one of {', '.join(_DTYPES)}")
    return tuple(part.get_shape()), _DTYPES[dtype]


def _check_backed(path: Path, sizes: Mapping[str, Any], found: Mapping[str, tuple[Sequence[int], torch.dtype]]) -> None:
    """Refuse sizes of a SAM that no tensor of the file bears out, before anything is built from them."""
    side, depth, width = sizes["image_size"] // sizes["patch_size"], sizes["depth"], sizes["embed_dim"]
    position = found.get("image_encoder.pos_embed", ((), None))[0]
    blocks = len({name.split(".")[2] for name in found if name.startswith("image_encoder.blocks.")})
    if tuple(position) != (1, side, side, width) or blocks != depth:
        raise CheckpointError(
            f"{path}: the structure does not fit the weights: the header names {depth} blocks of {side} x {side} "
            f"tokens of {width}, the tensors are {blocks} blocks and positions {tuple(position)}"
        )


def _fitting(path: Path, header: PrunedHeader, found: Mapping[str, tuple[Sequence[int], torch.dtype]]) -> nn.Module:
    """Build the structure without memory, after the tensors bear it out, and compare it with them."""
    assert header.shape is not None
    is_sam = is_sam_kind(header.kind)
    if is_sam:
        _check_backed(path, header.shape, found)
    model = _built(path, header)
    _check_fits(path, model, found)
    # of other families it is not known what else than weights there is to fill
    return model if is_sam else _built(path, header, "cpu")


def _built(path: Path, header: PrunedHeader, device: str = "meta") -> nn.Module:
    """Build the structure, by default on the meta device, which takes no memory."""
    assert header.shape is not None
    family = FAMILIES.get(SAM) if is_sam_kind(header.kind) else _family(path, header.kind)
    assert can_build(family)
    try:
        return prune(_whole(family, header.shape, device), header.plan, inplace=True)
    except (MedcorePruneError, AssertionError, RuntimeError, ArithmeticError, TypeError) as error:
        raise CheckpointError(f"{path}: the header names a model that cannot be built ({error})") from error


def _family(path: Path, name: str) -> EncoderFamily:
    if name not in FAMILIES:
        raise CheckpointError(
            f"{path}: holds a model of the family {name}, which is not known here: load its plug-in first"
        )
    family = FAMILIES.get(name)
    if not can_build(family):
        raise CheckpointError(f"{path}: holds a model of the family {name}, whose plug-in no longer builds it")
    return family


def _cut(
    path: Path, header: PrunedHeader, found: Mapping[str, tuple[Sequence[int], torch.dtype]], into: nn.Module | None
) -> nn.Module:
    """Cut a copy of a model of another library as the header says, and compare it with the tensors that there are."""
    if into is None:
        raise CheckpointError(
            f"{path}: holds a model of the family {header.kind}, which its own library builds: give the unpruned "
            "model, load(path, into=model)"
        )
    try:
        if family_of(into).name != header.kind:
            raise CheckpointError(
                f"{path}: holds a model of the family {header.kind}, into= is one of {family_of(into).name}: give the "
                "unpruned model"
            )
        model = prune(into, header.plan)
    except MedcorePruneError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: the model given as into= does not fit ({error})") from error
    _check_fits(path, model, found)
    return model


def _check_fits(path: Path, model: nn.Module, found: Mapping[str, tuple[Sequence[int], torch.dtype]]) -> None:
    expected = {name: _told(value.shape, value.dtype) for name, value in model.state_dict().items()}
    got = {name: _told(*kind) for name, kind in found.items()}
    if wrong := [name for name in sorted({*expected, *got}) if expected.get(name) != got.get(name)]:
        first = wrong[0]
        raise CheckpointError(
            f"{path}: the structure does not fit the weights: {len(wrong)} differ, first {first}: expected "
            f"{expected.get(first, 'nothing')}, got {got.get(first, 'nothing')}"
        )


def _told(shape: Sequence[int], kind: torch.dtype) -> str:
    return f"{tuple(shape)}{'' if kind.is_floating_point else ' of whole numbers'}"
