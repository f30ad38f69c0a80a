"""Resizing of 8-bit images as Pillow, OpenCV and PyTorch do it, to the last grey level.

Images are (H, W, C) uint8, ``size`` is (h, w); an image that has the size already comes back unchanged.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import ConfigError, DataError

Rounding = Literal["floor", "half_up", "short_side"]
"""How the sides of images whose shape is kept are rounded, see `short_side_size`."""
AnyRounding = Literal[Rounding, "half_even"]
_COEFFICIENT_ONE = 1 << 11  # OpenCV's INTER_RESIZE_COEF_SCALE: shares of a pixel are whole 2048ths


def resize_pillow(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by Pillow with its ``BILINEAR`` filter, which antialiases when it shrinks an image; rows first.

    Args:
        image: (H, W, 3) uint8, any order of channels.
        size: (h, w) of the result.

    Returns:
        (h, w, 3) uint8.

    Raises:
        DataError: the image has another type or shape, or no pixel.
        ConfigError: the size is not positive.

    """
    check_pixels(image)
    _check_size(size)
    if image.shape[:2] == tuple(size):
        return image
    # Pillow calls any three channels RGB.
    picture = Image.fromarray(np.ascontiguousarray(image))
    # In two calls, because the order is Pillow's own choice since 13, and each pass rounds.
    wide = picture.resize((size[1], picture.height), Image.Resampling.BILINEAR)
    return np.array(wide.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_opencv(image: NDArray[np.uint8], size: tuple[int, int], *, scale: float | None = None) -> NDArray[np.uint8]:
    """Resize as ``cv2.resize(..., interpolation=cv2.INTER_LINEAR)`` does: fixed-point bilinear, no antialiasing.

    The results are the same bytes as OpenCV's own. They differ by at most one grey level from the rounded result of
    bilinear interpolation in floating point.

    Args:
        image: (H, W, 3) uint8, any order of channels.
        size: (h, w) of the result.
        scale: by which OpenCV was told to scale both sides (``fx``, ``fy``); it then samples in steps of the inverse,
            whatever the rounded size is. By default it was told the size.

    Returns:
        (h, w, 3) uint8.

    Raises:
        DataError: the image has another type or shape, or no pixel.
        ConfigError: the size is not positive.

    """
    check_pixels(image)
    _check_size(size)
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    rows, row_shares = _taps(height, size[0], scale)
    columns, column_shares = _taps(width, size[1], scale)
    # Beyond the left and right edge the edge pixel counts whole. (Beyond the upper and lower edge its two shares are
    # cut to whole numbers apart, which can cost a grey level: OpenCV does not treat these edges alike.)
    outside = (columns < 0) | (columns >= width - 1)
    column_shares[:, outside] = [[_COEFFICIENT_ONE], [0]]
    # The horizontal pass is made once for every row that takes part.
    both = np.stack((rows, rows + 1)).clip(0, height - 1)
    used, row_of = np.unique(both, return_inverse=True)
    row_of = row_of.reshape(both.shape)
    source = image[used].astype(np.int32)
    left, right = columns.clip(0, width - 1), (columns + 1).clip(0, width - 1)
    left_share, right_share = column_shares[:, None, :, None]
    wide = source.take(left, axis=1) * left_share + source.take(right, axis=1) * right_share
    wide >>= 4
    upper_share, lower_share = row_shares[:, :, None, None]
    resized = (wide[row_of[0]] * upper_share) >> 16
    resized += (wide[row_of[1]] * lower_share) >> 16
    resized += 2
    resized >>= 2
    return np.asarray(resized, dtype=np.uint8)


def resize_bilinear(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize as `torch.nn.functional.interpolate` does (bilinear, align_corners=False, no antialiasing), then round.

    Args:
        image: (H, W, 3) uint8, any order of channels.
        size: (h, w) of the result.

    Returns:
        (h, w, 3) uint8.

    Raises:
        DataError: the image has another type or shape, or no pixel.
        ConfigError: the size is not positive.

    """
    check_pixels(image)
    _check_size(size)
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    upper, lower, down = _neighbours(height, size[0])
    left, right, across = _neighbours(width, size[1])
    used, row_of = np.unique(np.stack((upper, lower)), return_inverse=True)
    source = image[used].astype(np.float32)
    across = across[None, :, None]
    wide = source.take(left, axis=1) * (1 - across) + source.take(right, axis=1) * across
    row_of = row_of.reshape(2, -1)
    down = down[:, None, None]
    resized = wide[row_of[0]] * (1 - down) + wide[row_of[1]] * down
    return np.asarray(np.rint(resized), dtype=np.uint8)


def _neighbours(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of ``target`` pixels the two source pixels it lies between, and the share of the second."""
    scale = np.float32(source) / np.float32(target)
    place = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    place = place.clip(0, None)
    first = np.minimum(np.floor(place).astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), (place - first).astype(np.float32)


def _taps(source: int, target: int, scale: float | None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each of ``target`` pixels the first of the two source pixels it lies between, and what each contributes.

    Returns:
        first: (target,) int64, from -1.
        shares: (2, target) int32, 2048ths.

    """
    # OpenCV's precision at every step: the scale is the inverse of a quotient, the place is rounded to float32.
    step = 1.0 / (target / source if scale is None else scale)
    place = ((np.arange(target, dtype=np.float64) + 0.5) * step - 0.5).astype(np.float32)
    first = np.floor(place)
    share = place - first
    shares = np.rint(np.stack((np.float32(1) - share, share)) * np.float32(_COEFFICIENT_ONE))
    return first.astype(np.int64), shares.astype(np.int32)


def short_side_size(
    size: tuple[int, int], image_size: int, max_image_size: int, *, rounding: AnyRounding
) -> tuple[int, int]:
    """The size to which an image is brought whose shape is kept.

    Args:
        size: (H, W) of the image.
        image_size: length of the short side, pixels.
        max_image_size: limit of the long side.
        rounding: "floor" and "half_up" scale both sides; "short_side" makes the short side exact (or rounds it where
            the long side is limited) and cuts the long one; "half_even" multiplies both by `short_side_scale`.

    Returns:
        (h, w), at least one pixel each.

    """
    if rounding == "half_even":
        scale = short_side_scale(size, image_size, max_image_size)
        return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    short, long = sorted(size)
    if rounding == "short_side":
        target = image_size
        if long / short * target > max_image_size:
            target = round(max_image_size * short / long)
        sides = [target if side == short else int(target * side / short) for side in size]
    else:
        scale = min(image_size / short, max_image_size / long)
        rest = 0.5 if rounding == "half_up" else 0.0
        sides = [int(side * scale + rest) for side in size]
    return max(sides[0], 1), max(sides[1], 1)


def short_side_scale(size: tuple[int, int], image_size: int, max_image_size: int) -> float:
    """The factor that brings the short side of an image to a length, unless the rounded long one exceeds its limit."""
    short, long = sorted(size)
    scale = image_size / short
    return max_image_size / long if round(scale * long) > max_image_size else scale


def check_pixels(image: NDArray[np.uint8]) -> None:
    """Raises: DataError if an image is not (H, W, 3) uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"image: expected uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    if 0 in image.shape:
        raise DataError(f"image: expected at least one pixel, got shape {image.shape}")


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"size: expected two positive numbers, got {size}")
