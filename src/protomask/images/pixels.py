"""Image files by their endings, and Pillow image of any mode -> plain 8-bit RGB array (only here)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import DataError

EXIF_ORIENTATION = 0x0112
"""Tag that says how a picture is to be turned (TIFF 6.0, section 8)."""
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
"""Lower-case endings that folders and globs are searched for; a file named outright may end in anything."""
IMAGE_FORMATS = (
    "JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "TGA",
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),  # Pillow 11.3 and later
)  # fmt: skip
"""Pillow's names of the formats that are decoded. Others, such as PostScript, would start foreign programs."""

FREE_PIXELS = 1 << 24
"""Pixels that every file may have."""
PIXELS_PER_BYTE = 10_000
"""What a larger image may have: no photograph and no drawing comes near it, only a header that lies."""
_ROWS_AT_ONCE = 1 << 22  # pixels

_TIFF_MAX_SAMPLE_VALUE = 281  # TIFF 6.0, section 8: the largest value a sample can have
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


def check_claim(image: Image.Image, size: int, name: str) -> None:
    """See that an image file is large enough for the pixels that its header claims; nothing is decoded.

    Args:
        image: opened, not loaded.
        size: bytes of the file.
        name: what to call it.

    Raises:
        DataError: it is not.

    """
    pixels = image.width * image.height
    if pixels > FREE_PIXELS and pixels > PIXELS_PER_BYTE * size:
        raise DataError(f"{name}: claims {image.width}x{image.height} pixels in a file of {size} bytes")


def to_rgb_array(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of ``image`` as (H, W, 3) uint8 RGB, 0..255, contiguous and writable.

    * Transparency (``LA``, ``PA``, ``RGBA``, a transparent palette entry or colour key) is composited over **white**,
      so the colours hidden under transparent pixels never show and dark line art stays visible.
    * 16-bit and 32-bit integer grayscale is scaled by one fixed factor, 65535 -> 255, so that images of one series stay
      comparable. Only when the file itself states a smaller maximum (TIFF ``MaxSampleValue``, as 12-bit cameras do)
      is that the white point. Values outside the range are clipped.
    * Float grayscale has no agreed white: it is the smallest of 1, 255 and 65535 that holds the image's maximum.
      NaN becomes black.
    * ``CMYK``, ``YCbCr``, ``HSV`` and ``LAB`` are converted to RGB; ``1``, ``L`` and ``P`` are expanded.

    EXIF orientation is left to the caller, who knows in which frame the annotations live.

    Raises:
        DataError: the mode is none of the above.
        OSError: Pillow cannot decode the pixels (the image is loaded here).

    """
    mode = image.mode
    if mode == "I" or mode == "F" or mode.startswith("I;16"):
        return _in_strips(image, lambda strip: np.repeat(strip[:, :, None], 3, axis=2), _gray_converter(image))
    if mode == "LAB":
        return _writable(_lab_to_rgb(image))
    if mode == "La":  # premultiplied gray reaches RGBA only through LA
        image = image.convert("LA")
    try:
        if image.has_transparency_data:
            return _in_strips(image.convert("RGBA"), _composite_over_white)
        return _writable(image.convert("RGB"))
    except ValueError as error:
        raise DataError(f"pixel mode {mode!r} cannot be converted to RGB: {error}") from error


def _writable(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image, dtype=np.uint8)


def _in_strips(image: Image.Image, *steps: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[np.uint8]:
    """Convert an image strip by strip, the last step first: what lies between takes little memory."""
    values = np.asarray(image)
    pixels = np.empty((*values.shape[:2], 3), dtype=np.uint8)
    rows = max(1, _ROWS_AT_ONCE // max(values.shape[1], 1))
    for top in range(0, values.shape[0], rows):
        strip: NDArray[Any] = values[top : top + rows]
        for step in reversed(steps):
            strip = step(strip)
        pixels[top : top + rows] = strip
    return pixels


def _gray_converter(image: Image.Image) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """What turns the values of a gray image into 0..255."""
    tags = getattr(image, "tag_v2", {})
    is_float = image.mode == "F"
    white = 65535.0
    if is_float:
        finite_max = max(
            (float(np.nan_to_num(row, nan=0.0).max(initial=0.0)) for row in np.asarray(image)), default=0.0
        )
        white = next((bound for bound in (1.0, 255.0) if finite_max <= bound), 65535.0)
    stated = tags.get(_TIFF_MAX_SAMPLE_VALUE)
    stated = stated[0] if isinstance(stated, tuple) else stated
    if stated and not is_float:
        white = min(float(stated), white)
    white_is_zero = tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO  # Pillow inverts this for 8 bits only

    def convert(values: NDArray[Any]) -> NDArray[np.uint8]:
        real = values.astype(np.float32)
        scaled = np.clip((np.nan_to_num(real, nan=0.0) if is_float else real) * (255.0 / white), 0.0, 255.0)
        gray: NDArray[np.uint8] = np.rint(255.0 - scaled if white_is_zero else scaled).astype(np.uint8)
        return gray

    return convert


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:  # only when asked to work in place
        raise DataError("pixel mode 'LAB' could not be converted to RGB")
    return converted


def _composite_over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[:, :, 3:].astype(np.uint16)
    blended = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
