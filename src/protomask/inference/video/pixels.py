"""Pixels of a decoded frame: RGB, upright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protomask.images.decode import Pixels

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MATRIX = "DISPLAYMATRIX"


def pixels_of(picture: VideoFrame) -> Pixels:
    """(H, W, 3) uint8 RGB of a decoded frame, turned and mirrored as its file says.

    Colours are converted by the matrix and range that the file names, as FFmpeg does: BT.601 and limited range where it
    names none. More than 8 bits are reduced to 8, without mapping the tones of HDR.
    """
    rgb: Pixels = picture.to_ndarray(format="rgb24")  # type: ignore[assignment]
    turn = _orientation(picture)
    return rgb if turn is None else _oriented(rgb, turn)


def _orientation(picture: VideoFrame) -> tuple[int, int, int, int] | None:
    """Signs (a, b, c, d) of the matrix that turns a stored place (x, y) into a shown one: (ax + cy, bx + dy)."""
    side = picture.side_data.get(_MATRIX)
    if side is None:
        return None
    matrix = np.frombuffer(bytes(side), dtype=np.int32).reshape(3, 3)  # type: ignore[call-overload]
    corner = matrix[:2, :2].astype(np.float64)
    largest = np.abs(corner).max()
    if largest == 0:
        return None
    (a, b), (c, d) = np.rint(corner / largest).astype(int).tolist()
    # Angles between the right ones are left alone: a mask of a slanted frame would be of no frame at all.
    if sorted((abs(a), abs(b))) != [0, 1] or (abs(a), abs(b)) != (abs(d), abs(c)) or (a, b, c, d) == (1, 0, 0, 1):
        return None
    return a, b, c, d


def _oriented(pixels: Pixels, turn: tuple[int, int, int, int]) -> Pixels:
    a, b, c, d = turn
    if a == 0:  # rows become columns
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
