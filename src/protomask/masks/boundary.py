"""Boundaries of masks: erosion and dilation by a square, and the band of pixels along an outline."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protomask.masks.runs import MaskWindow

DILATION_RATIO = 0.02
"""Width of the boundary as a part of the image's diagonal (Cheng et al. 2021)."""


def boundary_width(size: tuple[int, int], ratio: float = DILATION_RATIO) -> int:
    """Width of the boundary of every mask in an image, pixels, at least 1.

    Args:
        size: (H, W) of the image.
        ratio: part of the image's diagonal.

    """
    return max(1, round(ratio * math.hypot(*size)))


def erode(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels whose whole neighbourhood belongs to the mask.

    Args:
        mask: (h, w) bool; what lies outside does not belong to it.
        radius: the neighbourhood is a square with sides of 2 radius + 1 pixels.

    Returns:
        (h, w) bool.

    """
    eroded = np.zeros_like(mask)
    if radius * 2 < min(mask.shape):
        full = _counts(_counts(mask, radius) == 2 * radius + 1, radius, axis=1) == 2 * radius + 1
        eroded[radius : mask.shape[0] - radius, radius : mask.shape[1] - radius] = full
    return eroded


def dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels with a pixel of the mask in their neighbourhood, as `erode` has it.

    Args:
        mask: (h, w) bool.
        radius: of the neighbourhood.

    Returns:
        (h, w) bool; what would lie outside is cut off.

    """
    padded = np.pad(mask, radius)
    return _counts(_counts(padded, radius) > 0, radius, axis=1) > 0


def mask_boundary(window: MaskWindow, width: int) -> MaskWindow:
    """The pixels of a mask that are near its outline: boundary IoU compares these (Cheng et al. 2021, equation 2,
    https://arxiv.org/abs/2103.16562).

    The edge of the image is part of the outline of a mask that touches it, as in the published evaluation.

    Args:
        window: the mask.
        width: pixels of the mask with a pixel outside of it within this distance, rows and columns counted alike.

    Returns:
        A window in the same place.

    """
    return MaskWindow(window.top, window.left, window.mask & ~erode(window.mask, width))


def _counts(mask: NDArray[np.bool_], radius: int, axis: int = 0) -> NDArray[np.int32]:
    """How many of 2 radius + 1 pixels in line belong to the mask, for each such line that lies inside."""
    length = 2 * radius + 1
    sums = np.cumsum(mask, axis=axis, dtype=np.int32)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis=axis)), sums], axis=axis)
    begin, end = [slice(None), slice(None)], [slice(None), slice(None)]
    begin[axis], end[axis] = slice(None, -length), slice(length, None)
    counts: NDArray[np.int32] = sums[tuple(end)] - sums[tuple(begin)]
    return counts
