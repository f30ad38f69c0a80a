from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.data.doctor.similar_images import fingerprint, similar_pairs


def picture(seed: int, size: tuple[int, int] = (96, 128)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "options"),
    [("b.jpg", {"quality": 60}), ("b.jpg", {"quality": 95}), ("b.webp", {"quality": 70}), ("b.bmp", {})],
)
@pytest.mark.parametrize("size", [(96, 128), (48, 64), (300, 400)])
def test_copies_are_found(tmp_path: Path, name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    picture(0).save(tmp_path / "a.png")
    picture(0).resize((size[1], size[0])).save(tmp_path / name, **options)
    others = [tmp_path / f"{seed}.png" for seed in range(1, 20)]
    for seed, path in enumerate(others, 1):
        picture(seed).save(path)
    first = [fingerprint(tmp_path / "a.png")]
    second = [fingerprint(path) for path in [*others, tmp_path / name]]
    assert similar_pairs(first, second) == [(0, 19)]
    assert similar_pairs(second, first) == [(19, 0)]


def test_identical_files_and_even_pictures_are_no_similar_ones(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    for level, name in ((10, "black.png"), (11, "dark.png")):
        Image.new("RGB", (40, 30), (level,) * 3).save(tmp_path / name)
    a, b, black, dark = (fingerprint(tmp_path / name) for name in ("a.png", "b.png", "black.png", "dark.png"))
    assert a.digest == b.digest
    assert similar_pairs([a, black], [b, dark]) == []
    assert similar_pairs([], [a]) == similar_pairs([a], []) == []


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16", "LA"])
def test_any_mode(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        Image.fromarray(np.asarray(picture(0).convert("L")).astype(np.uint16) * 257).save(tmp_path / "a.tif")
    else:
        picture(0).convert(mode).save(tmp_path / "a.tif")
    picture(0).save(tmp_path / "b.png")
    a, b = fingerprint(tmp_path / "a.tif"), fingerprint(tmp_path / "b.png")
    assert a.size == a.upright_size == (96, 128)
    assert np.count_nonzero(a.bits != b.bits) <= (20 if mode == "1" else 10)


def test_turned_by_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(tmp_path / "a.jpg", exif=exif)
    picture(0).transpose(Image.Transpose.ROTATE_270).save(tmp_path / "b.png")
    a, b = fingerprint(tmp_path / "a.jpg"), fingerprint(tmp_path / "b.png")
    assert (a.size, a.upright_size) == ((96, 128), (128, 96))
    assert similar_pairs([a], [b]) == [(0, 0)]


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(OSError, match="cannot identify"):
        fingerprint(tmp_path / "a.png")
