from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from protomask.images.pixels import to_rgb_array

RED, WHITE = [255, 0, 0], [255, 255, 255]


def picture(mode: str) -> Image.Image:
    return Image.fromarray(np.array([[RED, WHITE]], dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr", "HSV"])
def test_colour_modes_come_out_as_rgb(mode: str) -> None:
    pixels = to_rgb_array(picture(mode))
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels.flags["WRITEABLE"]
    np.testing.assert_allclose(pixels[0].astype(int), [RED, WHITE], atol=2)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I", "F"])
def test_gray_modes_have_equal_channels(mode: str) -> None:
    gray = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    source = Image.fromarray(np.array([[0, 65535]], dtype=np.int32)) if mode == "I" else gray.convert(mode)
    assert to_rgb_array(source).tolist() == [[[0, 0, 0], WHITE]]


def test_16_bits_are_scaled_by_one_factor() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    assert to_rgb_array(Image.fromarray(values))[0, :, 0].tolist() == [0, 1, 128, 255]


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


def test_an_empty_picture_stays_empty() -> None:
    assert to_rgb_array(Image.new("RGB", (0, 5))).shape == (5, 0, 3)
