import numpy as np
import pytest
import torch

from medcore_prune._support.errors import DataError
from medcore_prune.data.frame import Frame

SQUARE, PADDED = Frame(48), Frame(48, padded=True)


def shades(height: int, width: int) -> np.ndarray:
    return np.linspace(40, 200, height * width * 3).reshape(height, width, 3).astype(np.uint8)


@pytest.mark.parametrize("frame", [SQUARE, PADDED])
def test_each_image_fills_the_unit_range(frame: Frame) -> None:
    square = frame.image(shades(30, 20))
    assert square.shape == (3, 48, 48)
    assert square.min() == 0.0
    assert square.max() == 1.0


def test_an_image_of_one_value_is_zero() -> None:
    assert torch.count_nonzero(Frame(16).image(np.full((9, 9), 77, np.uint8))) == 0


def test_gray_and_rgba_are_read_and_floats_refused() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    rgba = np.dstack([gray, gray, gray, np.zeros_like(gray)])
    frame = Frame(8)
    assert torch.equal(frame.image(gray), frame.image(rgba))
    with pytest.raises(DataError, match="uint8"):
        frame.image(gray.astype(np.float32))
    with pytest.raises(DataError, match=r"\(8, 8, 2\)"):
        frame.image(rgba[:, :, :2])


def test_padding_lies_below_and_to_the_right_and_is_zero() -> None:
    wide, high = PADDED.image(shades(20, 40) + 1), PADDED.image(shades(40, 30) + 1)
    assert PADDED.content((20, 40)) == (24, 48)
    assert PADDED.content((40, 30)) == (48, 36)
    assert torch.count_nonzero(wide[:, 24:]) == 0
    assert torch.count_nonzero(high[:, :, 36:]) == 0
    assert wide[:, 23].min() > 0
    # the image's own range, not that of image and padding
    assert wide[:, :24].min() == 0.0


def test_a_padded_square_is_a_stretched_one() -> None:
    image, mask = shades(20, 20), np.eye(20, dtype=bool)
    assert torch.equal(SQUARE.image(image), PADDED.image(image))
    assert np.array_equal(SQUARE.mask(mask), PADDED.mask(mask))
    assert torch.equal(SQUARE.box((1, 2, 9, 9), (20, 20)), PADDED.box((1, 2, 9, 9), (20, 20)))


def test_boxes_scale_as_the_image_does() -> None:
    # 200 wide, 100 high, to 50: x shrinks by 4; y by 2 where the image is stretched, by 4 where it is padded
    assert Frame(50).box((20, 10, 100, 90), (100, 200)).tolist() == [5.0, 5.0, 25.0, 45.0]
    assert Frame(50, padded=True).box((20, 10, 100, 90), (100, 200)).tolist() == [5.0, 2.5, 25.0, 22.5]


@pytest.mark.parametrize("box", [(5, 5, 4, 9), (float("nan"), 0, 1, 1), (300, 0, 310, 5), (-9, -9, -1, -1)])
def test_bad_boxes_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(DataError, match="box"):
        Frame(50).box(box, (100, 200))


def test_masks_lie_where_the_image_does() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[10:, 20:] = True
    placed = PADDED.mask(mask)
    assert placed.shape == (48, 48)
    rows, columns = np.nonzero(placed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 23, 24, 47)


@pytest.mark.parametrize("side", [12, 48])
def test_cropping_takes_the_padding_off(side: int) -> None:
    maps = torch.zeros(1, 1, side, side)
    maps[..., : side // 2, :] = 1.0
    cropped = PADDED.crop(maps, (20, 40))
    assert cropped.shape == (1, 1, 24, 48)
    # the last rows of a smaller map are mixed with the padding, as segment-anything mixes them
    assert cropped[..., :22, :].min() == 1.0
    assert SQUARE.crop(maps, (20, 40)) is maps


def test_what_was_stretched_is_placed_like_the_image() -> None:
    square = SQUARE.image(shades(20, 40))
    placed = PADDED.place(square, (20, 40))
    assert torch.count_nonzero(placed[:, 24:]) == 0
    assert (placed - PADDED.image(shades(20, 40))).abs().max() < 0.05
