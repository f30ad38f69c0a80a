"""An image file without an EXIF orientation, so that every program sees the frame that results are in."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from protomask.files import naming, replacing
from protomask.images.decode import Pixels
from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_FORMATS, IMAGE_SUFFIXES

_JPEG_QUALITY = 95


def write_upright(pixels: Pixels, stem: Path, source: Path | None) -> Path:
    """Write an image, whole or not at all: a copy of its file where that is upright, else encoded again.

    Args:
        pixels: (H, W, 3) uint8 RGB, as it was read.
        stem: path to write to, without the ending: that of ``source``, or .png.
        source: the file it was read from; None where there is none.

    Returns:
        The file written.

    Raises:
        ProtomaskError: the file cannot be written.

    """
    kind, is_upright = (None, False) if source is None else _header(source)
    if source is not None and is_upright:
        path = stem.with_name(stem.name + source.suffix)
        with naming(path), source.open("rb") as original, replacing(path) as file:
            shutil.copyfileobj(original, file)
        return path
    ending, options = (".jpg", {"quality": _JPEG_QUALITY}) if kind in ("JPEG", "MPO") else (".png", {})
    path = stem.with_name(stem.name + ending)
    with replacing(path) as file:
        Image.fromarray(pixels).save(file, format="JPEG" if ending == ".jpg" else "PNG", **options)
    return path


def _header(source: Path) -> tuple[str | None, bool]:
    """The format of a file as Pillow calls it, and whether other programs find it and see it as it was read."""
    try:
        with Image.open(source, formats=IMAGE_FORMATS) as opened:
            orientation = opened.getexif().get(EXIF_ORIENTATION, 1)
            return opened.format, source.suffix.lower() in IMAGE_SUFFIXES and orientation not in range(2, 9)
    except Exception:  # what a file that has changed since makes a decoder raise is not documented
        return None, False
