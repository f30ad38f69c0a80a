from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.images.pixels import to_rgb_array

WHITE, BLACK, GRAY = [255] * 3, [0] * 3, [128] * 3


def _with_palette(transparency: int | None) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


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
        (_with_palette(None), [200, 100, 50]),
        (_with_palette(1), WHITE),
        (_with_palette(0), [200, 100, 50]),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), [255, 0, 0]),
        (Image.new("YCbCr", (2, 2), (128, 128, 128)), GRAY),
        (Image.new("HSV", (2, 2), (0, 255, 255)), [255, 0, 0]),
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


def test_stated_maximum_of_a_12_bit_tiff(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(np.full((2, 2), 4095, dtype=np.uint16)).save(file, tiffinfo={281: 4095})
    with Image.open(file) as image:
        assert to_rgb_array(image)[0, 0].tolist() == WHITE
