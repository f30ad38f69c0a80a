"""Image files, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import ConfigError
from protomask.files import replacing

_JPEG_QUALITY = 92
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_ending(path: Path) -> None:
    """See that a path has the ending of an image that `write_image` writes.

    Raises:
        ConfigError: it has another one.

    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(_FORMATS)}, got {path.suffix!r}")


def write_image(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an image in the format that its ending says.

    Args:
        path: .png, .jpg or .webp.
        pixels: (H, W, 3) uint8 RGB; in a PNG also (H, W, 4) uint8 RGBA, or (H, W) of 8 or 16 bits.

    Raises:
        ConfigError: the ending is of no such format.
        ProtomaskError: the file cannot be written.

    """
    check_ending(path)
    kind = _FORMATS[path.suffix.lower()]
    with replacing(path) as file:
        if kind == "PNG":  # level 1: a third larger than the default and several times faster
            Image.fromarray(pixels).save(file, format=kind, compress_level=1)
        else:
            Image.fromarray(pixels).save(file, format=kind, quality=_JPEG_QUALITY)
