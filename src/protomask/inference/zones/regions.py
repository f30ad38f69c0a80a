"""`Zone` and `Line`: regions of a frame in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.masks.polygons import Polygon, polygons_to_mask
from protomask.masks.runs import Runs, mask_runs

_PIXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Zone:
    """An area of the frame.

    Attributes:
        name: of the zone.
        polygons: its parts, px.
        frame_size: (H, W) of the frame it was drawn on; None where that is not known.

    """

    name: str
    polygons: tuple[Polygon, ...]
    frame_size: tuple[int, int] | None = None

    def pixels(self, size: tuple[int, int]) -> Runs:
        """The pixels of the zone in a frame of (H, W)."""
        return mask_runs(polygons_to_mask(self.polygons, size))


@dataclass(frozen=True, eq=False)
class Line:
    """A line of one or more segments across the frame.

    Attributes:
        name: of the line.
        points: (K, 2) float64, x then y, px, in order. "Left" and "right" are as seen when looking from the first point
            to the last.
        frame_size: (H, W) of the frame it was drawn on; None where that is not known.

    """

    name: str
    points: NDArray[np.float64]
    frame_size: tuple[int, int] | None = None

    def sides(self, size: tuple[int, int]) -> tuple[Runs, Runs]:
        """The pixels left and right of the line in a frame of (H, W).

        A pixel is on the side of the segment nearest to its centre. Pixels nearest to an end of the line, beyond it,
        are on neither side, so that who walks around the end does not cross the line.
        """
        height, width = size
        side = np.zeros(size, dtype=np.int8)
        rows = max(1, _PIXELS_AT_ONCE // max(width, 1))
        for top in range(0, height, rows):
            side[top : top + rows] = self._sides_of_rows(top, min(rows, height - top), width)
        return mask_runs(side < 0), mask_runs(side > 0)

    def _sides_of_rows(self, top: int, rows: int, width: int) -> NDArray[np.int8]:
        """(rows, width): -1 left, 1 right, 0 neither."""
        x, y = np.arange(width) + 0.5, np.arange(top, top + rows)[:, None] + 0.5
        nearest = np.full((rows, width), np.inf)
        offset = np.zeros((rows, width))
        beyond = np.zeros((rows, width), dtype=np.bool_)
        last = len(self.points) - 2
        for index, (start, end) in enumerate(zip(self.points[:-1], self.points[1:], strict=True)):
            (dx, dy), length = end - start, float(np.hypot(*(end - start)))
            along = ((x - start[0]) * dx + (y - start[1]) * dy) / length**2
            clipped = along.clip(0, 1)
            distance = (x - start[0] - clipped * dx) ** 2 + (y - start[1] - clipped * dy) ** 2
            across = (dx * (y - start[1]) - dy * (x - start[0])) / length
            # At a corner both segments are equally near; the one that the pixel lies more beside knows its side.
            tie = np.abs(distance - nearest) <= 1e-6 * (1 + distance)
            better = np.where(tie, np.abs(across) > np.abs(offset), distance < nearest)
            nearest = np.where(better, distance, nearest)
            offset = np.where(better, across, offset)
            out = ((along < 0) & (index == 0)) | ((along > 1) & (index == last))
            beyond = np.where(better, out, beyond)
        return np.where(beyond, 0, np.sign(offset)).astype(np.int8)


Region = Zone | Line
