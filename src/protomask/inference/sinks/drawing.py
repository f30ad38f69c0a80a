"""What is drawn on frames: the seam between what draws them and the sinks that write or show it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from protomask.images.decode import Pixels
from protomask.inference.sinks.pictures import found_in
from protomask.structures.frame import Frame
from protomask.structures.overlays import ColorBy

FrameDrawing = Callable[[Frame], Pixels]
"""Draws what was found in a frame on its image: (H, W, 3) uint8 RGB of the same size, a new array. It is called for one
frame after another, from one thread at a time, and may remember what it has seen."""


def draw_found(frame: Frame, color_by: ColorBy = "auto") -> Pixels:
    """Draw masks, boxes, classes and scores, each frame by itself."""
    return found_in(frame).draw(frame.image, color_by=color_by)


def drawing_of_found(color_by: ColorBy) -> FrameDrawing:
    """`draw_found` with these colours."""
    return partial(draw_found, color_by=color_by)


class DrawOnce:
    """A drawing that several sinks share: what remembers the frames before must see each of them once.

    Args:
        draw: what draws.

    """

    def __init__(self, draw: FrameDrawing) -> None:
        self._draw = draw
        self._frame: Frame | None = None
        self._drawn: Pixels | None = None

    def __call__(self, frame: Frame) -> Pixels:
        """See `FrameDrawing`; the same array for the same frame."""
        if self._drawn is None or self._frame is not frame:
            self._frame, self._drawn = frame, self._draw(frame)
        return self._drawn
