"""What other objects hide of an object, and where its box is although they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.inference.tracking.similarity import Floats
from protomask.masks.coarse import CoarseMask

_HIDDEN = 0.5
"""Share of a cell that must be hidden to count."""


class Places(NamedTuple):
    """Boxes as centre x, centre y, width, height, px (K, 4), and which of these numbers were seen (K, 4)."""

    place: Floats
    seen: NDArray[np.bool_]


def covered(masks: Sequence[CoarseMask], grid_size: tuple[int, int]) -> CoarseMask:
    """Shares of all cells of a grid that the detections of a frame cover together."""
    cover = CoarseMask(0, 0, np.zeros(grid_size, dtype=np.float32))
    for mask in masks:
        part = cover.within(mask)
        part += mask.within(cover)
    np.minimum(cover.shares, 1, out=cover.shares)
    return cover


def hidden_part(expected: CoarseMask, mask: CoarseMask, cover: CoarseMask) -> CoarseMask:
    """The part of an object that is expected where other objects were found.

    Args:
        expected: where the object should be.
        mask: where it was found.
        cover: see `covered`.

    """
    inside = expected.within(cover)
    part = CoarseMask(max(expected.top, 0), max(expected.left, 0), cover.within(expected).copy())
    own = part.within(mask)
    own -= mask.within(part)
    np.clip(part.shares, 0, inside, out=part.shares)
    return part


def hidden_reach(parts: Sequence[CoarseMask]) -> Floats:
    """(K, 4) xyxy in cells of what counts as hidden; infinite and the wrong way round where nothing does."""
    reach = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(parts), 1))
    for own, part in zip(reach, parts, strict=True):
        cells = part.shares > _HIDDEN
        if cells.any():
            columns, rows = np.flatnonzero(cells.any(axis=0)), np.flatnonzero(cells.any(axis=1))
            own[:] = part.left + columns[0], part.top + rows[0], part.left + columns[-1] + 1, part.top + rows[-1] + 1
    return reach


def measured_places(
    boxes: Floats, found_boxes: Floats, reach: Floats, image_size: tuple[int, int], cell: Floats
) -> Places:
    """The whole boxes of objects from the boxes of what is seen of them.

    A side is hidden where the object should go on under another one, or beyond the edge of the frame. An axis with one
    hidden side keeps its length and goes by the other side; with two it is not seen.

    Args:
        boxes: (K, 4) xyxy where the objects should be, px.
        found_boxes: (K, 4) xyxy of the detections, px.
        reach: see `hidden_reach`.
        image_size: (H, W), px.
        cell: (2,) width and height of a cell, px.

    """
    place, seen = np.zeros((len(boxes), 4)), np.ones((len(boxes), 4), dtype=np.bool_)
    for axis in (0, 1):  # x, y
        length, step = image_size[1 - axis], cell[axis]
        low, high = found_boxes[:, axis], found_boxes[:, axis + 2]
        should_low, should_high = boxes[:, axis], boxes[:, axis + 2]
        lost_low = (reach[:, axis] * step < low - step) | ((low <= 1) & (should_low < low - 1))
        lost_high = (reach[:, axis + 2] * step > high + step) | ((high >= length - 1) & (should_high > high + 1))
        side = np.where(lost_low | lost_high, should_high - should_low, high - low)
        centre = np.where(lost_low, high - side / 2, np.where(lost_high, low + side / 2, (low + high) / 2))
        place[:, axis], place[:, axis + 2] = centre, side
        seen[:, axis] = ~(lost_low & lost_high)
        seen[:, axis + 2] = ~(lost_low | lost_high)
    return Places(place, seen)
