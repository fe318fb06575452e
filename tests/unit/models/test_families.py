"""Families of one's own; docs/extending.md has a whole one, which runs as a test."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune import register_family
from medcore_prune._support.errors import CheckpointError, MedcorePruneError, RegistryError
from medcore_prune.checkpoints.sam import load_checkpoint
from medcore_prune.models.families import FAMILIES, build_model, family_of, kinds
from medcore_prune.models.segment_anything import SegmentAnythingFamily

INNER = SegmentAnythingFamily()


class Own(nn.Module):
    """Stands for a model of another library: a SAM within, and a buffer that no file holds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.sam = INNER.build({**INNER.kinds["pocket"], "image_size": size})
        self.register_buffer("scale", torch.full((1,), 3.0), persistent=False)


class OwnFamily:
    """Answers for `Own` by asking the SAM within."""

    name = "own"
    kinds: Mapping[str, Mapping[str, Any]] = {"own": {"image_size": 48}}

    def matches(self, model: object) -> bool:
        return isinstance(model, Own)

    def encoder(self, model: Any) -> nn.Module:
        return INNER.encoder(model.sam)

    def blocks(self, model: Any) -> list[Any]:
        def named(block: Any) -> Any:
            names = {role: f"sam.{name}" for role, name in block.layer_names.items()}
            return replace(block, name=f"sam.{block.name}", layer_names=names)

        return [named(block) for block in INNER.blocks(model.sam)]

    def geometry(self, model: Any) -> Any:
        return INNER.geometry(model.sam)

    def set_num_heads(self, block: Any, num_heads: int) -> None:
        INNER.set_num_heads(block, num_heads)

    def embed(self, model: Any, images: Tensor) -> Tensor:
        return INNER.embed(model.sam, images)

    def decode(self, model: Any, embeddings: Tensor, boxes: Tensor) -> Tensor:
        return INNER.decode(model.sam, embeddings, boxes)

    def build(self, settings: Mapping[str, Any]) -> nn.Module:
        return Own(settings["image_size"])

    def settings(self, model: nn.Module) -> Mapping[str, Any]:
        return {"image_size": self.geometry(model).image_size}

    def load(self, state: Mapping[str, Tensor], image_size: int | None = None) -> nn.Module | None:
        if not all(name.startswith("sam.") for name in state):
            return None
        model = Own(8 * state["sam.image_encoder.pos_embed"].shape[1])
        model.load_state_dict(dict(state))
        return model


@pytest.fixture
def own() -> Iterator[None]:
    register_family(OwnFamily)
    yield
    FAMILIES.unregister("own")


@pytest.fixture
def weights(own: None, tmp_path: Path) -> Path:
    torch.save(build_model("own", seed=3).state_dict(), tmp_path / "own.pth")
    return tmp_path / "own.pth"


def test_a_family_is_registered_once(own: None) -> None:
    before = [family.name for family in FAMILIES.values()]
    register_family(OwnFamily())
    assert [family.name for family in FAMILIES.values()] == before
    assert {"segment_anything", "timm ViT", "tiny_vit", "transformers SAM", "transformers ViT"} <= set(before[:-1])
    assert before[-1] == "own"


def test_what_is_no_family_is_refused() -> None:
    with pytest.raises(RegistryError, match="family dict lacks name, matches, encoder"):
        register_family({})  # type: ignore[type-var]

    class Taken(SegmentAnythingFamily):
        pass

    with pytest.raises(RegistryError, match=r"family name 'segment_anything' is taken \(built-in\): choose another"):
        register_family(Taken())

    class Half(OwnFamily):
        name = "half"

        @property
        def load(self) -> None:  # type: ignore[override]
            raise AttributeError

    with pytest.raises(RegistryError, match="family half builds its models, but lacks load"):
        register_family(Half)
    assert "half" not in FAMILIES


def test_its_kind_is_built_by_name(own: None) -> None:
    assert kinds() == ["vit_b", "vit_l", "vit_h", "pocket", "lite_medsam", "mobile_sam", "own"]
    model = build_model("own", image_size=96)
    assert family_of(model).name == "own"
    assert family_of(model).geometry(model).image_size == 96
    assert next(build_model("own", "meta").parameters()).is_meta
    with pytest.raises(MedcorePruneError, match="unknown model 'owl': did you mean 'own'"):
        build_model("owl")


def test_its_checkpoint_is_known_by_its_tensors(weights: Path) -> None:
    for model in (load_checkpoint(weights), load_checkpoint(weights, "own")):
        assert family_of(model).name == "own"
        assert not model.training
        assert mp.count(model).params == mp.count(build_model("own")).params
    with pytest.raises(CheckpointError, match=r"own\.pth: does not fit vit_b"):
        load_checkpoint(weights, "vit_b")
    with pytest.raises(MedcorePruneError, match=r"own\.pth is for 48 px and not for 96"):
        load_checkpoint(weights, image_size=96)


def test_weights_of_a_sam_are_not_taken_for_it(own: None, tmp_path: Path) -> None:
    torch.save(mp.build_sam("pocket", image_size=48).state_dict(), tmp_path / "sam.pth")
    with pytest.raises(CheckpointError, match=r"sam\.pth: does not fit own: its tensors are those of segment_anything"):
        load_checkpoint(tmp_path / "sam.pth", "own")
    assert family_of(load_checkpoint(tmp_path / "sam.pth")).name == "segment_anything"


def test_a_pruned_model_of_it_is_built_from_its_file_alone(weights: Path, tmp_path: Path) -> None:
    model = load_checkpoint(weights)
    small = mp.prune(model, mp.plan(model, "h50_m50", "magnitude"))
    mp.save(small, tmp_path / "small.safetensors")
    again: Any = mp.load(tmp_path / "small.safetensors")
    images = torch.rand(1, 3, 48, 48)
    assert torch.equal(family_of(again).embed(again, images), family_of(small).embed(small, images))
    assert again.scale.tolist() == [3.0]
    assert family_of(load_checkpoint(tmp_path / "small.safetensors", "own")).name == "own"
    with pytest.raises(CheckpointError, match=r"holds a own, not a vit_b"):
        load_checkpoint(tmp_path / "small.safetensors", "vit_b")
    FAMILIES.unregister("own")
    with pytest.raises(CheckpointError, match="a model of the family own, which is not known here: load its plug-in"):
        mp.load(tmp_path / "small.safetensors")
    register_family(OwnFamily)


def test_weights_that_two_families_claim_are_refused(weights: Path) -> None:
    class Other(OwnFamily):
        name = "other"
        kinds: Mapping[str, Mapping[str, Any]] = {"other": {"image_size": 48}}

    register_family(Other)
    try:
        with pytest.raises(CheckpointError, match=r"own\.pth: its tensors are those of own and other: say which"):
            load_checkpoint(weights)
        assert load_checkpoint(weights, "other") is not None
    finally:
        FAMILIES.unregister("other")


def test_weights_that_nobody_knows(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: its tensors, such as layer\.weight, are of no known model fam"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_family_that_fails_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(OwnFamily, "load", fails)
    with pytest.raises(CheckpointError, match=r"own\.pth: family own failed: KeyError: 'x' \(test_families\.py, line"):
        load_checkpoint(weights)
