"""Image files by their endings, and Pillow image of any mode -> plain 8-bit RGB array (only here)."""

from __future__ import annotations

from importlib.util import find_spec

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

_TIFF_MAX_SAMPLE_VALUE = 281  # TIFF 6.0, section 8: the largest value a sample can have
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


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
        return np.repeat(_gray_to_uint8(image)[:, :, None], 3, axis=2)
    if mode == "LAB":
        return _writable(_lab_to_rgb(image))
    if mode == "La":  # premultiplied gray reaches RGBA only through LA
        image = image.convert("LA")
    try:
        if image.has_transparency_data:
            return _composite_over_white(np.asarray(image.convert("RGBA")))
        return _writable(image.convert("RGB"))
    except ValueError as error:
        raise DataError(f"pixel mode {mode!r} cannot be converted to RGB: {error}") from error


def _writable(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image, dtype=np.uint8)


def _gray_to_uint8(image: Image.Image) -> NDArray[np.uint8]:
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
        finite_max = float(values.max(initial=0.0))
        white = next((bound for bound in (1.0, 255.0) if finite_max <= bound), 65535.0)
    else:
        values = np.asarray(image).astype(np.float32)
        white = 65535.0
    stated = tags.get(_TIFF_MAX_SAMPLE_VALUE)
    stated = stated[0] if isinstance(stated, tuple) else stated
    if stated and image.mode != "F":
        white = min(float(stated), white)
    scaled = np.clip(values * (255.0 / white), 0.0, 255.0)
    if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:  # Pillow inverts this for 8 bits only
        scaled = 255.0 - scaled
    gray: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return gray


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
