"""Shapes of labelling tools: ellipses, outlines with holes, masks of a part of the image, and their union."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from protomask.data.coco.segmentation import encode_segmentation
from protomask.errors import DataError
from protomask.masks.outlines import MAX_COORDINATE
from protomask.masks.rle import decode_rle, encode_rle
from protomask.masks.segmentations import Segmentation, segmentation_of_mask
from protomask.structures.coco_json import finite_number, shown

Part = list[float] | NDArray[np.bool_]
"""A polygon [x1, y1, x2, y2, ...] in px, or a mask (H, W) bool of the whole image."""

_ARC_DEVIATION = 0.05  # px between an ellipse and the polygon that stands for it
_PATCH_SHARE, _PATCH_PIXELS = 4, 1 << 20  # pixels of a mask, per pixel of the image and more


def ellipse(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> list[float]:
    """Polygon of an ellipse, or a circle.

    Args:
        center: (x, y), px.
        radii: along x and along y, px.
        degrees: turn about the centre, clockwise as images are seen.

    """
    (x, y), (x_radius, y_radius) = center, radii
    radius = max(abs(x_radius), abs(y_radius))
    step = 2 * math.acos(1 - min(_ARC_DEVIATION / radius, 0.5)) if radius else math.pi / 2
    angles = np.linspace(0, 2 * math.pi, max(8, math.ceil(2 * math.pi / step)), endpoint=False)
    along, across = x_radius * np.cos(angles), y_radius * np.sin(angles)
    turn = math.radians(degrees)
    points = np.stack(
        [
            x + along * math.cos(turn) - across * math.sin(turn),
            y + along * math.sin(turn) + across * math.cos(turn),
        ],
        axis=1,
    )
    numbers: list[float] = points.clip(-MAX_COORDINATE, MAX_COORDINATE).ravel().tolist()
    return numbers


def number(value: Any, where: str) -> float:
    """A coordinate or length in px.

    Raises:
        DataError: it is not a number, or beyond any image.

    """
    found = finite_number(value)
    if found is None or abs(found) > MAX_COORDINATE:
        raise DataError(f"{where}: expected a number of px, got {shown(value)}")
    return found


def outline(points: Any, where: str) -> list[float]:
    """The polygon of a list of points [x, y].

    Raises:
        DataError: it is something else, or has fewer than 3 points.

    """
    if not isinstance(points, list) or not all(isinstance(point, list | tuple) and len(point) == 2 for point in points):
        raise DataError(f"{where}: expected a list of points [x, y], got {shown(points)}")
    if len(points) < 3:
        raise DataError(f"{where}: expected 3 points or more, got {len(points)}")
    return [number(value, where) for point in points for value in point]


def union(parts: Sequence[Part], size: tuple[int, int], holes: list[list[float]] | None = None) -> Segmentation:
    """All parts as one segmentation.

    Args:
        parts: one or more.
        size: (H, W) of the image.
        holes: polygons whose pixels do not belong to it.

    Raises:
        DataError: an outline is longer than any in such an image.

    """
    polygons = [part for part in parts if isinstance(part, list)]
    masks = [part for part in parts if isinstance(part, np.ndarray)]
    if not masks and not holes:
        return polygons
    if polygons:
        masks.append(rasterised(polygons, size))
    mask = np.logical_or.reduce(masks)
    if not holes:
        return encode_rle(mask[None])[0]
    return segmentation_of_mask(mask & ~rasterised(holes, size))


def rasterised(segmentation: Segmentation, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of a segmentation.

    Raises:
        DataError: an outline is longer than any in such an image.

    """
    code = encode_segmentation(segmentation, size)
    if code is None:
        raise DataError("an outline is longer than any in an image of this size")
    return decode_rle(code)


def read_base64(text: Any, where: str) -> bytes:
    """The bytes that a text holds.

    Raises:
        DataError: it is not base64.

    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataError(f"{where}: expected a file in base64: {error}") from error


def max_patch_pixels(size: tuple[int, int]) -> int:
    """The largest number of pixels of a mask that belongs to an image of ``size`` (H, W)."""
    return _PATCH_SHARE * size[0] * size[1] + _PATCH_PIXELS


def read_patch(content: bytes, where: str, *, corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of an image of which a PNG holds a part: all that is not black or transparent.

    Args:
        content: the PNG.
        where: for messages.
        corner: (top, left) of the part in the image; what lies outside is cut off.
        size: (H, W) of the image.

    Raises:
        DataError: it is not a PNG, or is far larger than the image; it is not decoded then.

    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
            if opened.width * opened.height > max_patch_pixels(size):
                raise ValueError(f"{opened.width}x{opened.height} px are more than the image has")
            seen = opened.convert("RGBA").getchannel("A") if opened.has_transparency_data else opened.convert("L")
            patch = np.asarray(seen) > 0
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: expected a PNG in base64, got something else") from error
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{where}: expected a PNG in base64: {str(error) or type(error).__name__}") from error
    return place_patch(patch, corner, size)


def place_patch(patch: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of an image of which ``patch`` is a part, with its (top, left) ``corner``."""
    mask = np.zeros(size, dtype=np.bool_)
    top, left = corner
    part = patch[max(-top, 0) :, max(-left, 0) :]
    window = mask[max(top, 0) : max(top, 0) + part.shape[0], max(left, 0) : max(left, 0) + part.shape[1]]
    window |= part[: window.shape[0], : window.shape[1]]
    return mask
