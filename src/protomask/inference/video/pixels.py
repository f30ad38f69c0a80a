"""Pixels of a decoded frame: RGB, upright."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from protomask.images.decode import Pixels

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MATRIX = "DISPLAYMATRIX"


Turn = tuple[int, int, int, int]
"""Signs (a, b, c, d) of the matrix that turns a stored place (x, y) into a shown one, (ax + cy, bx + dy)."""


class Upright:
    """Turns the frames of one stream as their file says.

    The matrix is looked at when the angle changes, not for each frame: whoever asks PyAV for it makes a cycle of
    references, and the memory of the frame is only free again when Python looks for cycles.
    """

    def __init__(self) -> None:
        self._rotation: int | None = None
        self._turn: Turn | None = None

    def pixels_of(self, picture: VideoFrame) -> Callable[[], Pixels]:
        """What reads the pixels of the next frame of the stream, see `pixels_of`."""
        rotation = picture.rotation
        if rotation != self._rotation:
            self._rotation, self._turn = rotation, _orientation(picture)
        return partial(pixels_of, picture, self._turn)


def pixels_of(picture: VideoFrame, turn: Turn | None) -> Pixels:
    """(H, W, 3) uint8 RGB of a decoded frame, turned and mirrored.

    Colours are converted by the matrix and range that the file names, as FFmpeg does: BT.601 and limited range where it
    names none. More than 8 bits are reduced to 8, without mapping the tones of HDR.
    """
    rgb: Pixels = picture.to_ndarray(format="rgb24")  # type: ignore[assignment]
    return rgb if turn is None else _oriented(rgb, turn)


def _orientation(picture: VideoFrame) -> Turn | None:
    """How a frame is to be turned; None where it is upright."""
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


def _oriented(pixels: Pixels, turn: Turn) -> Pixels:
    a, b, c, d = turn
    if a == 0:  # rows become columns
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
