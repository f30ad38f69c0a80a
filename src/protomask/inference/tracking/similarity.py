"""How well detections fit tracks: masks where there are enough cells of them, boxes elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.masks.coarse import CoarseMask

Floats = NDArray[np.float64]

FEW_CELLS = 12.0
"""A mask of less area, in cells, is too coarse to be compared."""


class Overlaps(NamedTuple):
    """Overlaps of N tracks with M detections.

    Attributes:
        plain: (N, M) IoU of the masks, or of the boxes where masks are too small.
        excused: (N, M) the same without the parts of the tracks that other detections cover: these hide them.
        hidden: (N,) share of each track's mask that detections cover.

    """

    plain: Floats
    excused: Floats
    hidden: Floats


def overlaps(masks: Sequence[CoarseMask], boxes: Floats, found: Sequence[CoarseMask], found_boxes: Floats) -> Overlaps:
    """Compare the expected masks and boxes (N, 4) of tracks with those of M detections."""
    shared = _shared(masks, found)
    # Sums of squares, so that a mask has an IoU of 1 with itself where cells are covered in part.
    own, area = _areas(masks)[:, None], _areas(found)[None]
    plain = shared / np.maximum(own + area - shared, 1e-6)
    covered = shared.sum(axis=1, keepdims=True)
    open_part = np.clip(own - (covered - shared), shared, np.maximum(own, shared))
    excused = shared / np.maximum(open_part + area - shared, 1e-6)
    small = (own < FEW_CELLS) | (area < FEW_CELLS)
    if small.any():
        boxed = box_overlaps(boxes, found_boxes)
        plain, excused = np.where(small, boxed, plain), np.where(small, boxed, excused)
    return Overlaps(plain, excused, np.clip(covered[:, 0] / np.maximum(own[:, 0], 1e-6), 0, 1))


def _areas(masks: Sequence[CoarseMask]) -> Floats:
    return np.array([float(np.vdot(mask.shares, mask.shares)) for mask in masks])


def _shared(first: Sequence[CoarseMask], second: Sequence[CoarseMask]) -> Floats:
    """(N, M) sums of products; only masks whose windows meet are looked at, and pairs of the same list once."""
    shared = np.zeros((len(first), len(second)))
    if not shared.size:
        return shared
    windows, others = (
        np.array([(mask.top, mask.left, mask.bottom, mask.right) for mask in masks]) for masks in (first, second)
    )
    low = np.maximum(windows[:, None, :2], others[None, :, :2])
    high = np.minimum(windows[:, None, 2:], others[None, :, 2:])
    meet = (low < high).all(axis=2)
    if first is second:
        meet = np.triu(meet)
    rows, columns = np.nonzero(meet)
    places = np.concatenate([low[rows, columns], high[rows, columns]], axis=1).tolist()
    values = []
    for row, column, (top, left, bottom, right) in zip(rows.tolist(), columns.tolist(), places, strict=True):
        (y, x, own), (other_y, other_x, other) = first[row], second[column]
        values.append(
            np.vdot(
                own[top - y : bottom - y, left - x : right - x],
                other[top - other_y : bottom - other_y, left - other_x : right - other_x],
            )
        )
    shared[rows, columns] = values
    return np.maximum(shared, shared.T) if first is second else shared


def box_overlaps(first: Floats, second: Floats) -> Floats:
    """IoU (N, M) of boxes (N, 4) and (M, 4), xyxy."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    iou: Floats = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-6)
    return iou
