from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.images.pixels import to_rgb_array

RED, WHITE, BLACK, GRAY = [255, 0, 0], [255] * 3, [0] * 3, [128] * 3


def two_pixels(mode: str) -> Image.Image:
    return Image.fromarray(np.array([[RED, WHITE]], dtype=np.uint8)).convert(mode)


def with_palette(transparency: int | None) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr", "HSV"])
def test_colour_modes_come_out_as_rgb(mode: str) -> None:
    pixels = to_rgb_array(two_pixels(mode))
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels.flags["WRITEABLE"]
    np.testing.assert_allclose(pixels[0].astype(int), [RED, WHITE], atol=2)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I", "F"])
def test_gray_modes_have_equal_channels(mode: str) -> None:
    gray = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    source = Image.fromarray(np.array([[0, 65535]], dtype=np.int32)) if mode == "I" else gray.convert(mode)
    assert to_rgb_array(source).tolist() == [[[0, 0, 0], WHITE]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (2, 2), 1), WHITE),
        (Image.new("L", (2, 2), 128), GRAY),
        (Image.new("LA", (2, 2), (10, 0)), WHITE),
        (Image.new("LA", (2, 2), (128, 255)), GRAY),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 128)), [255, 127, 127]),
        (Image.new("RGBA", (2, 2), (1, 2, 3, 255)), [1, 2, 3]),
        (with_palette(None), [200, 100, 50]),
        (with_palette(1), WHITE),
        (with_palette(0), [200, 100, 50]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), RED),
        (Image.new("YCbCr", (2, 2), (128, 128, 128)), GRAY),
        (Image.new("HSV", (2, 2), (0, 255, 255)), RED),
        (Image.new("LAB", (2, 2), (0, 128, 128)), BLACK),
        (Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16)), WHITE),
        (Image.fromarray(np.full((2, 2), 128 * 257, dtype=np.uint16)), GRAY),
        (Image.fromarray(np.full((2, 2), 128 * 257, dtype=np.int32)), GRAY),
        (Image.fromarray(np.full((2, 2), -5, dtype=np.int32)), BLACK),
        (Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)), GRAY),
        (Image.fromarray(np.full((2, 2), 128.0, dtype=np.float32)), GRAY),
        (Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)), BLACK),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_pixel_modes(image: Image.Image, expected: list[int]) -> None:
    pixels = to_rgb_array(image)
    assert pixels.shape == (2, 2, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert np.abs(pixels[0, 0].astype(int) - expected).max() <= 1  # LAB rounds


def test_16_bits_are_scaled_by_one_factor() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    assert to_rgb_array(Image.fromarray(values))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_stated_maximum_of_a_12_bit_tiff(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(np.full((2, 2), 4095, dtype=np.uint16)).save(file, tiffinfo={281: 4095})
    with Image.open(file) as image:
        assert to_rgb_array(image)[0, 0].tolist() == WHITE


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.0, 255.0], [0, 100, 255]), ([np.nan, -4.0, 1.0], [0, 0, 255])],
    ids=["0 to 1", "0 to 255", "nan and negative"],
)
def test_float_gray_finds_its_white(values: list[float], wanted: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert to_rgb_array(image)[0, :, 1].tolist() == wanted


def test_transparency_is_put_over_white() -> None:
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    assert to_rgb_array(Image.fromarray(rgba)).tolist() == [[RED, WHITE, [127, 127, 127]]]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    stored = io.BytesIO()
    image.save(stored, "PNG", transparency=0)
    assert to_rgb_array(Image.open(stored)).tolist() == [[WHITE, [200, 0, 0]]]


def test_an_image_without_pixels_stays_without() -> None:
    assert to_rgb_array(Image.new("RGB", (0, 5))).shape == (5, 0, 3)
