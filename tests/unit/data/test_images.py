"""Every kind of image and mask file has one decided reading."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from medcore_prune._support.errors import DataError
from medcore_prune.data import stored
from medcore_prune.data.images import image_shape, read_image, read_labels, read_mask, to_rgb

RNG = np.random.default_rng(7)
GRAY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_gray_is_repeated(tmp_path, save):
    image = read_image(save(tmp_path / "gray.png", GRAY))
    assert image.shape == (5, 7, 3)
    assert all(np.array_equal(image[:, :, channel], GRAY) for channel in range(3))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.npy", "A.PNG"])
def test_rgb_is_kept(tmp_path, save, name):
    np.testing.assert_array_equal(read_image(save(tmp_path / name, RGB)), RGB)


def test_alpha_is_dropped_not_blended(tmp_path, save):
    transparent = np.dstack([RGB, np.zeros((5, 7), np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgba.png", transparent)), RGB)
    gray_alpha = np.dstack([GRAY, np.zeros((5, 7), np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "la.png", gray_alpha))[:, :, 1], GRAY)


def test_palette_is_looked_up(tmp_path):
    indexed = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode=None).convert("P")
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    indexed.save(tmp_path / "palette.png")
    image = read_image(tmp_path / "palette.png")
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[0, 1].tolist() == [200, 100, 50]


def test_one_bit_images_become_black_and_white(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[:, :, 0], np.where(GRAY > 127, 255, 0))


def test_eight_bits_in_sixteen_come_back_exactly(tmp_path, save):
    # 257 * v is v in both bytes; values that do not span the range must not be stretched
    narrow = (GRAY // 4).astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(save(tmp_path / "wide.png", narrow))[:, :, 0], GRAY // 4)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_sixteen_bits_are_scaled_by_the_images_own_range(tmp_path, save, name):
    # a 12-bit detector: lowest value to 0, highest to 255, 1000 + 2048 of 1000..3550 to 204.8
    image = read_image(save(tmp_path / name, np.array([[1000, 3550], [3048, 2275]], np.uint16)))
    assert image[:, :, 0].tolist() == [[0, 255], [205, 128]]


def test_sixteen_bit_colour_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "wide.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "wide.tif"), RGB)
    # 10-bit values would all be 0 to 3 if only their high byte were read
    tifffile.imwrite(tmp_path / "ten.tif", np.dstack([[[0, 1020]]] * 3).astype(np.uint16), photometric="rgb")
    assert read_image(tmp_path / "ten.tif")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_turned_round(tmp_path, order, kind):
    # big-endian 16-bit ones are none of Pillow's
    shades = GRAY.astype(kind) * (np.iinfo(kind).max // 255)
    tifffile.imwrite(tmp_path / "a.tif", np.iinfo(kind).max - shades, photometric="miniswhite", byteorder=order)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[:, :, 0], GRAY)
    mask = np.where(SQUARE, 0, np.iinfo(kind).max).astype(kind)
    tifffile.imwrite(tmp_path / "m.tif", mask, photometric="miniswhite", byteorder=order)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), SQUARE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.uint32, np.int16, np.float32])
def test_a_tiff_of_wide_values_whose_zero_is_white_is_refused(tmp_path, order, kind):
    tifffile.imwrite(tmp_path / "a.tif", GRAY.astype(kind), photometric="miniswhite", byteorder=order)
    for read in (read_image, read_mask, read_labels):
        with pytest.raises(DataError, match=r"a\.tif: .*whose 0 is white, of \w+ values: save it with black as 0"):
            read(tmp_path / "a.tif")


def test_constant_float_image_is_black(tmp_path, save):
    assert not read_image(save(tmp_path / "flat.npy", np.full((3, 3), 0.5))).any()


@pytest.mark.parametrize("name", ["turned.png", "turned.tif"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, name, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    kwargs = {"exif": exif} if name.endswith("png") else {"tiffinfo": dict(exif), "compression": "tiff_lzw"}
    Image.fromarray(GRAY).save(tmp_path / name, **kwargs)
    upright = np.rot90(GRAY, turn)
    np.testing.assert_array_equal(read_image(tmp_path / name)[:, :, 0], upright)
    assert image_shape(tmp_path / name) == upright.shape


def test_a_tiff_on_its_side_that_pillow_garbles_is_refused(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "side.tif", tiffinfo={0x0112: 6})
    for read in (read_image, image_shape):
        with pytest.raises(DataError, match=r"side\.tif: .*save it upright"):
            read(tmp_path / "side.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif", "a.npy"])
def test_shape_from_the_header_is_that_of_the_image(tmp_path, save, name):
    path = save(tmp_path / name, GRAY)
    assert image_shape(path) == read_image(path).shape[:2] == (5, 7)


@pytest.mark.parametrize("read", [read_image, read_mask, read_labels, image_shape])
def test_missing_and_foreign_files_are_refused(tmp_path, read):
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        read(tmp_path / "gone.png")
    (tmp_path / "page.png").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"page\.png: expected an image, could not read it"):
        read(tmp_path / "page.png")


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_a_file_cut_off_behind_its_header_is_refused_by_the_header_check(tmp_path, save, name):
    path = save(tmp_path / name, RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="could not read it"):
        image_shape(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 3), np.nan), "expected finite pixel values"),
        (np.zeros((3, 3, 5), np.uint8), r"expected an image of shape \(H, W\)"),
        (np.zeros((0, 3), np.uint8), "expected an image of shape"),
        (np.array([{}], dtype=object), "could not read it"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path, values, message):
    np.save(tmp_path / "odd.npy", values)
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "odd.npy")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"numpy array, got Tensor: give np\.asarray"),
        ([[0, 1], [2, 3]], r"numpy array, got list: give np\.asarray"),
        (np.zeros((0, 4, 3), np.uint8), r"expected an image with pixels, got shape \(0, 4, 3\)"),
        (np.zeros((4, 4)), "expected an image of uint8 values, got float64"),
        (np.zeros((4, 4, 2), np.uint8), r"expected an image of shape .* got \(4, 4, 2\)"),
    ],
)
def test_what_is_no_image_in_memory_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        to_rgb(image)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_files_of_several_pages_are_refused(tmp_path, name):
    pages = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy()), Image.fromarray(255 - RGB)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    for read in (read_image, read_mask, read_labels, image_shape):
        with pytest.raises(DataError, match=rf"{name}: .*holds 3 pages: save the one that is meant"):
            read(tmp_path / name)
    pages[0].save(tmp_path / name, save_all=True)
    assert read_image(tmp_path / name).shape == (*image_shape(tmp_path / name), 3) == RGB.shape


def test_sixteen_bit_colour_tiffs_of_several_pages_are_refused(tmp_path):
    wide = np.stack([RGB, RGB]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", wide, photometric="rgb")
    for read in (read_image, image_shape):
        with pytest.raises(DataError, match="holds 2 pages"):
            read(tmp_path / "a.tif")


def test_the_first_picture_of_a_phones_jpeg_is_read(tmp_path, save):
    pages = [Image.fromarray(RGB), Image.fromarray(RGB[:2, :2])]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), read_image(save(tmp_path / "b.jpg", RGB)))
    assert image_shape(tmp_path / "a.jpg") == (5, 7)


SQUARE = np.zeros((16, 16), bool)
SQUARE[4:12, 4:12] = True


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("zero_one.png", SQUARE.astype(np.uint8)),
        ("zero_255.png", SQUARE.astype(np.uint8) * 255),
        ("lossy.jpg", SQUARE.astype(np.uint8) * 255),
        ("lossy_colour.jpg", np.dstack([SQUARE.astype(np.uint8) * 255] * 3)),
        ("green.png", np.dstack([SQUARE * 0, SQUARE * 128, SQUARE * 0]).astype(np.uint8)),
        ("opaque.png", np.dstack([SQUARE * 255] * 3 + [SQUARE * 0 + 255]).astype(np.uint8)),
        ("only_alpha.png", np.dstack([SQUARE * 0] * 3 + [SQUARE * 255]).astype(np.uint8)),
        ("wide.png", SQUARE.astype(np.uint16) * 65535),
        ("wide_one.tif", SQUARE.astype(np.uint16)),
        ("labels.png", np.where(SQUARE, np.arange(16) % 3 + 1, 0).astype(np.uint8)),
        ("bits.npy", SQUARE),
        ("long.npy", SQUARE.astype(np.int64)),
        ("float.npy", np.where(SQUARE, 0.9, 0.1)),
        ("float_labels.npy", np.where(SQUARE, np.arange(16) % 3 + 1.0, 0.0)),
    ],
)
def test_masks_of_every_kind_are_the_same_square(tmp_path, save, name, values):
    np.testing.assert_array_equal(read_mask(save(tmp_path / name, values)), SQUARE)


def test_anti_aliased_edges_are_cut_at_half(tmp_path, save):
    values = np.array([[0, 60, 127, 128, 250, 255]], np.uint8)
    assert read_mask(save(tmp_path / "soft.png", values)).tolist() == [[False, False, False, True, True, True]]


def test_compression_noise_of_an_empty_lossy_mask_stays_background(tmp_path, save):
    noise = np.tile(np.array([[0, 3]], np.uint8), (16, 8))
    assert not read_mask(save(tmp_path / "noise.jpg", noise, quality=95)).any()


def test_labels_keep_their_values(tmp_path, save):
    values = np.array([[0, 1, 300], [7, 0, 7]], np.uint16)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "labels.png", values)), values)
    with pytest.raises(DataError, match="label map of whole numbers"):
        read_labels(save(tmp_path / "half.npy", np.array([[0.5, 1.0]])))


def test_paths_may_be_strings(tmp_path: Path, save):
    np.testing.assert_array_equal(read_image(str(save(tmp_path / "a.png", RGB))), RGB)


def palette_file(place: Path, indices: np.ndarray, colours: list[tuple[int, int, int]]) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    image.save(place)
    return place


INDICES = np.array([[0, 1, 1], [2, 0, 3]])
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


def test_of_a_class_palette_the_indices_are_labels_and_all_but_black_is_object(tmp_path):
    place = palette_file(tmp_path / "voc.png", INDICES, VOC)
    np.testing.assert_array_equal(read_labels(place), INDICES)
    np.testing.assert_array_equal(read_mask(place), INDICES > 0)
    # a palette that does not begin with black is looked up
    white_first = palette_file(tmp_path / "w.png", np.array([[0, 1]]), [(255, 255, 255), (0, 0, 0)])
    np.testing.assert_array_equal(read_mask(white_first), [[True, False]])
    gray = palette_file(tmp_path / "g.png", np.array([[0, 1, 2]]), [(0, 0, 0), (60, 60, 60), (255, 255, 255)])
    np.testing.assert_array_equal(read_mask(gray), [[False, False, True]])


def test_every_colour_of_a_few_is_object_and_no_label(tmp_path, save):
    colours = np.array(VOC, np.uint8)[INDICES]
    colours[1, 2] = (192, 0, 0)
    place = save(tmp_path / "colours.png", colours)
    np.testing.assert_array_equal(read_mask(place), INDICES > 0)
    with pytest.raises(DataError, match="expected a label map of one channel, got colours"):
        read_labels(place)


RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def two_colours(inside: tuple[int, ...], outside: tuple[int, ...]) -> np.ndarray:
    return np.where(SQUARE[:, :, None], inside, outside).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rgb.png", two_colours(RED, BLUE)),
        ("rgb.bmp", two_colours(RED, WHITE)),
        ("opaque.png", two_colours((*RED, 255), (*WHITE, 255))),
        ("labels.png", np.where(SQUARE, 2, 1).astype(np.uint8)),
        ("wide.tif", np.where(SQUARE, 2, 1).astype(np.uint16)),
        ("bright.png", np.where(SQUARE, 255, 200).astype(np.uint8)),
        ("float.npy", np.where(SQUARE, 0.9, 0.6)),
    ],
)
def test_masks_of_several_values_without_background_are_refused(tmp_path, save, name, values):
    with pytest.raises(DataError, match=r"every pixel is object; expected a background of 0 \(black\)") as caught:
        read_mask(save(tmp_path / name, values))
    assert "\n" not in str(caught.value)
    # one value over the whole image is an object that fills it
    assert read_mask(save(tmp_path / name, np.broadcast_to(values[8, 8], values.shape).copy())).all()


def test_a_palette_without_black_has_no_background(tmp_path):
    with pytest.raises(DataError, match="expected a background of 0"):
        read_mask(palette_file(tmp_path / "w.png", SQUARE, [WHITE, RED]))


@pytest.mark.parametrize(
    ("inside", "outside"),
    [((*RED, 255), (*WHITE, 0)), ((*WHITE, 100), (*RED, 0)), ((*RED, 255), (*RED, 0)), ((*RED, 255), (0, 0, 0, 0))],
)
def test_of_a_few_colours_what_is_transparent_is_background(tmp_path, save, inside, outside):
    place = save(tmp_path / "a.png", two_colours(inside, outside))
    np.testing.assert_array_equal(read_mask(place), SQUARE)


def test_colour_and_alpha_that_disagree_are_refused(tmp_path, save):
    for values in (two_colours((0, 0, 0, 255), (*WHITE, 0)), two_colours((*RED, 0), (0, 0, 0, 255))):
        with pytest.raises(DataError, match="colour and alpha disagree on what is object"):
            read_mask(save(tmp_path / "a.png", values))


def test_labels_with_a_void_are_refused(tmp_path, save):
    void = np.array([[0, 1, 1], [1, 255, 0]], np.uint8)
    with pytest.raises(DataError, match="holds the values 1, 255: neither a 0/255 mask nor labels alone"):
        read_mask(save(tmp_path / "void.png", void))


@pytest.mark.parametrize(
    ("name", "low", "high", "kind"),
    [
        ("a.png", 85, 170, np.uint8),
        ("a.tif", 100, 200, np.uint8),
        ("a.bmp", 2, 200, np.uint8),
        ("a.png", 127, 128, np.uint8),
        ("a.png", 10, 40000, np.uint16),
        ("a.npy", 85, 170, np.int64),
        ("a.npy", 85, 170, np.float32),
    ],
)
def test_labels_that_a_cut_would_lose_are_refused(tmp_path, save, name, low, high, kind):
    values = np.zeros((12, 12), kind)
    values[1:4, 1:4], values[6:10, 6:10] = low, high
    with pytest.raises(DataError, match=rf"a\.\w+: holds the values {low}, {high}: neither a 0/255 mask nor labels"):
        read_mask(save(tmp_path / name, values))
    # what is thinner is an edge, and labels in the lower half lose nothing
    values[2, 2] = 0
    np.testing.assert_array_equal(read_mask(save(tmp_path / name, values)), values > low)
    alone = np.where(values == high, low - 1, values)
    np.testing.assert_array_equal(read_mask(save(tmp_path / name, alone)), alone > 0)


def test_labels_of_a_palette_that_a_cut_would_lose_are_refused(tmp_path):
    indices = np.zeros((12, 12), np.uint8)
    indices[1:5, 1:5], indices[6:10, 6:10] = 5, 255
    place = palette_file(tmp_path / "void.png", indices, [(0, 0, 0), *[(i, 9, 9) for i in range(1, 256)]])
    with pytest.raises(DataError, match="holds the values 5, 255: neither"):
        read_mask(place)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
@pytest.mark.parametrize("radius", [3, 20, 50])
def test_resized_discs_are_cut_at_half(tmp_path, save, name, radius):
    rows, columns = np.ogrid[-64:64, -64:64]
    disc = np.where(rows**2 + columns**2 < radius**2, 255, 0).astype(np.uint8)
    for size, resample in [(64, "BOX"), (32, "BOX"), (200, "BILINEAR"), (256, "BILINEAR"), (512, "BILINEAR")]:
        soft = np.asarray(Image.fromarray(disc).resize((size, size), Image.Resampling[resample]))
        assert len(np.unique(soft)) > 2
        np.testing.assert_array_equal(read_mask(save(tmp_path / name, soft)), soft > 127)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 4), complex),
        np.zeros((4, 4), "M8[s]"),
        np.zeros((4, 4), [("a", int)]),
        np.zeros((4, 4), "S3"),
        np.zeros((0, 4)),
        np.zeros(()),
        np.array([[1e308, -1e308]] * 2),
    ],
)
def test_arrays_that_are_no_image(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(DataError, match=r"x\.npy: expected"):
        read_image(tmp_path / "x.npy")


def test_a_header_of_absurd_size_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    np.save(path := tmp_path / "x.npy", np.zeros((2, 2)))
    content = path.read_bytes().replace(b"(2, 2), }" + b" " * 16, b"(900000, 900000), }      ")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npy: expected an image, could not read it"):
        read_image(path)
    # values that are there, but too many
    np.save(path, np.zeros((40, 40)))
    monkeypatch.setattr(stored, "MOST_PIXELS", 1000)
    with pytest.raises(DataError, match="40 x 40 pixels, expected at most 1000"):
        read_image(path)


def test_a_tiff_of_absurd_size_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MOST_PIXELS", 1000)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((40, 40, 3), np.uint16), compression="zlib")
    with pytest.raises(DataError, match="40 x 40 pixels, expected at most 1000"):
        read_image(path)


def test_pickles_and_archives_called_npy_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "y.npz", np.zeros((4, 4)))
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    for name in "xy":
        with pytest.raises(DataError, match="expected an image, could not read it"):
            read_image(tmp_path / f"{name}.npy")


def test_what_only_calls_itself_an_image_is_not_handed_to_other_programs(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(DataError, match="of no format that is known"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("values", [np.full((4, 4), -1), np.full((4, 4), 2**40), np.full((4, 4), 1e300)])
def test_labels_out_of_range(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(DataError, match=r"x\.npy: expected labels from 0 to 2147483647"):
        read_labels(tmp_path / "x.npy")


@pytest.mark.parametrize("how", ["BILINEAR", "BICUBIC", "LANCZOS", "HAMMING", "BOX"])
def test_soft_edges_of_resized_masks_are_no_labels(tmp_path, how):
    rng = np.random.default_rng(3)
    for number in range(25):
        height, width = (int(n) for n in rng.integers(40, 160, 2))
        rows, columns = np.ogrid[:height, :width]
        radius = rng.integers(3, 9)
        if number % 2:
            mask = (abs(rows - height // 2) < 2 * radius) & (abs(columns - width // 2) < radius)
        else:
            mask = np.hypot(rows - height / 2, columns - width / 2) < radius
        factor = float(rng.choice([0.5, 0.6, 0.75, 1.5, 2, 3, 5, 8]))
        size = (int(width * factor), int(height * factor))
        soft = Image.fromarray((mask * 255).astype(np.uint8)).resize(size, Image.Resampling[how])
        soft.save(tmp_path / "soft.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "soft.png"), np.asarray(soft) > 127)


@pytest.mark.parametrize("values", [(1, 255), (1, 2, 255), (2, 255), (64, 255), (100, 200), (1, 150, 255)])
def test_flat_values_beside_a_larger_one_stay_refused(tmp_path, save, values):
    flat = np.zeros((12, 60), np.uint8)
    for number, value in enumerate(values):
        flat[2:8, 10 * number : 10 * number + 6] = value
    with pytest.raises(DataError, match=r"neither a 0/255 mask nor labels|all of these may be the object"):
        read_mask(save(tmp_path / "a.png", flat))
    for threshold in (0, 1, 99, 150, 254):
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png", threshold), flat > threshold)
    with pytest.raises(DataError, match="expected a mask threshold of at least 0, got -1"):
        read_mask(tmp_path / "a.png", -1)


def test_half_of_the_range_is_for_masks_whose_largest_value_lies_above_it(tmp_path, save):
    for top in (1, 255):
        mask = np.zeros((9, 9), np.uint8)
        mask[2:6, 2:6] = top
        np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", mask), "half"), mask > 0)
