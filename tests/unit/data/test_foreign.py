"""What other libraries hold becomes the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.data.foreign import as_image, as_mask

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = PIXELS[:, :, 0]


class Held:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(2, 0, 1), PIXELS),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS),
        (torch.from_numpy(PIXELS), PIXELS),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255, PIXELS),
        ((torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).double().requires_grad_(), PIXELS),
        (PIXELS / 255, PIXELS),
        (PIXELS.astype(np.float32), PIXELS),
        (Image.fromarray(PIXELS), PIXELS),
        (Image.fromarray(GRAY), np.repeat(GRAY[:, :, None], 3, 2)),
        (GRAY[None], np.repeat(GRAY[:, :, None], 3, 2)),
        (GRAY[:, :, None], np.repeat(GRAY[:, :, None], 3, 2)),
        (torch.from_numpy(GRAY)[None] / 255, np.repeat(GRAY[:, :, None], 3, 2)),
        (np.dstack([PIXELS, GRAY]), PIXELS),
        (Held(PIXELS), PIXELS),
        (GRAY > 99, np.repeat((GRAY > 99)[:, :, None] * np.uint8(255), 3, 2)),
        # where both fit, a tensor's channels come first and an array's last
        (torch.from_numpy(PIXELS[:3].copy()), PIXELS[:3].transpose(1, 2, 0)),
        (PIXELS[:3], PIXELS[:3]),
    ],
)
def test_images_of_any_library(given: Any, wanted: np.ndarray) -> None:
    if isinstance(given, torch.Tensor) and given.shape == (3, 9, 3):
        given = given[:, :, :3]
    np.testing.assert_array_equal(as_image(given), wanted)


def test_an_image_by_its_path(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(as_image(path), PIXELS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (PIXELS / 255 * 4 - 2, r"floats in \[0, 1\], got -2 to 1.91: leave out the normalisation"),
        (PIXELS * 0.5, "leave out the normalisation, or scale it"),
        (np.full((6, 9), np.nan), "got nan to nan"),
        (PIXELS.astype(np.int64), "got int64: scale it"),
        (np.zeros((2, 5, 6, 9)), "expected an image of shape"),
        (np.zeros((0, 4), np.uint8), "expected an image with pixels"),
        (np.zeros((5, 6, 9), np.uint8), r"got \(5, 6, 9\)"),
        ({"a": 1}, "expected an image as an array, a tensor, a PIL image or a path, got dict"),
    ],
)
def test_images_that_are_none(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_image(given)


MASK = np.zeros((6, 9), bool)
MASK[1:4, 2:7] = True


@pytest.mark.parametrize(
    "given",
    [
        MASK,
        MASK[None],
        MASK[:, :, None],
        MASK * np.uint8(255),
        MASK.astype(np.float64),
        torch.from_numpy(MASK)[None].float(),
        torch.from_numpy(MASK) * 0.8 + 0.1,
        torch.from_numpy(MASK).long(),
        Image.fromarray(MASK * np.uint8(255)),
        Held(MASK),
    ],
)
def test_masks_of_any_library(given: Any) -> None:
    np.testing.assert_array_equal(as_mask(given), MASK)


def test_masks_that_are_none() -> None:
    with pytest.raises(DataError, match=r"expected a mask of shape .* got \(2, 6, 9\): choose one channel"):
        as_mask(np.stack([MASK, ~MASK]))
    with pytest.raises(DataError, match="finite"):
        as_mask(np.where(MASK, np.nan, 0.0))


class Items(Dataset):
    """Six images as MONAI's dictionaries hold them."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, place: int) -> dict[str, Any]:
        rng = np.random.default_rng(place)
        image = torch.from_numpy(rng.random((3, 6, 9), dtype=np.float32))
        mask = torch.zeros(1, 6, 9)
        mask[:, 1:4, place : place + 2] = 1
        meta = {"filename_or_obj": f"{place}.png"}
        return {"image": image, "label": mask, "patient": f"p{place // 2}", "image_meta_dict": meta}


def test_a_torch_data_set_and_loaders_of_it() -> None:
    whole = mp.data.from_torch(Items(), mask="label", group="patient", name="own")
    assert (whole.name, list(whole.groups)) == ("own", ["p0", "p0", "p1", "p1", "p2", "p2"])
    assert [sample.box for sample in whole] == [(float(n), 1.0, n + 1.0, 3.0) for n in range(6)]
    np.testing.assert_array_equal(whole[4].image, as_image(Items()[4]["image"]))
    for size in (1, 4, None):
        loaded = mp.data.from_torch(DataLoader(Items(), batch_size=size), mask="label", group="patient", name="own")
        assert loaded.hashes() == whole.hashes()
        assert (list(loaded.ids), list(loaded.groups)) == (list(whole.ids), list(whole.groups))
    one, other = (
        mp.data.from_torch(DataLoader(Items(), 4, shuffle=True), mask="label", group="patient") for _ in range(2)
    )
    assert list(one.ids) == list(other.ids)
    assert one.hashes() == other.hashes()
    assert {*one.hashes()} == {*whole.hashes()}
    parts = mp.data.split({"own": whole}, fractions=(0.5, 0.0, 0.5))
    assert {*parts.train["own"].groups}.isdisjoint(parts.test["own"].groups)


def test_tuples_functions_and_boxes() -> None:
    pairs = [(item["image"], item["label"], torch.tensor([0, 0, 8, 5])) for item in (Items()[n] for n in range(3))]
    for dataset in (pairs, iter(pairs), DataLoader(pairs, batch_size=2)):
        found = mp.data.from_torch(dataset, image=0, mask=lambda item: item[1] > 0.5, box=2)
        assert [sample.box for sample in found] == [(0.0, 0.0, 8.0, 5.0)] * 3
        assert list(found.ids) == ["000000", "000001", "000002"]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (Items(), r"item 0, masks: expected an item with 'mask', got keys image, label, patient, image_meta_dict"),
        ([(1, 2)], r"item 0, images: expected an item with 'image', got a tuple"),
        ([], "no image; expected at least one"),
        (7, "expected a torch data set, a DataLoader or a sequence of items, got int"),
        ([{"image": PIXELS, "mask": MASK[:, :-1]}], "expected a mask of the image's shape"),
        ([{"image": PIXELS, "mask": MASK & False}], "an empty mask has no box"),
    ],
)
def test_data_sets_that_cannot_be_read(dataset: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        mp.data.from_torch(dataset)
