from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.images.decode import read_image
from protomask.images.upright import write_upright

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def saved(path: Path, *, orientation: int = 1, **options: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "A.JPG", "a.jpeg", "a.webp", "a.tif"])
def test_upright_files_are_copied(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path / name)
    target = write_upright(read_image(source), tmp_path / "out.x", source)
    assert target == tmp_path / f"out.x{source.suffix}"
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("name", "orientation", "ending"),
    [("a.jpg", 6, ".jpg"), ("a.jpg", 3, ".jpg"), ("a.png", 6, ".png"), ("a.tif", 6, ".png"), ("a.webp", 8, ".png")],
)
def test_turned_files_are_encoded_again(tmp_path: Path, name: str, orientation: int, ending: str) -> None:
    source = saved(tmp_path / name, orientation=orientation)
    pixels = read_image(source)
    target = write_upright(pixels, tmp_path / "out", source)
    assert target.name == f"out{ending}"
    assert Image.open(target).getexif().get(0x0112, 1) == 1
    again = read_image(target)
    assert again.shape == pixels.shape
    assert np.abs(again.astype(int) - pixels).mean() < (40 if ending == ".jpg" else 1e-9)  # noise hardly survives JPEG


def odd_ending(folder: Path) -> Path:
    return saved(folder / "photo.dat", format="PNG")


def gone(folder: Path) -> Path:
    return folder / "gone.png"


@pytest.mark.parametrize("make", [odd_ending, gone, None])
def test_what_is_no_image_file_becomes_a_png(tmp_path: Path, make: Any) -> None:
    source = None if make is None else make(tmp_path)
    target = write_upright(PIXELS, tmp_path / "out", source)
    assert target.name == "out.png"
    np.testing.assert_array_equal(read_image(target), PIXELS)
