"""What is wrong with masks: merged, split, cut by the box, leaked, wrong only along the outline.

Looked at are the masks of one image, of any class, whatever their boxes; a mask has one fault, the first that fits:

- *merged*: it covers at least half of each of several objects;
- *split*: it lies by three quarters in its object and covers a tenth to three quarters of it, and so does another mask,
  elsewhere in it (less than half of the lesser one is shared);
- *cut by the box*: a tenth or more of the object lies outside the box that the mask was found in;
- *leakage*: a tenth or more of the mask lies outside of the object, and not just along its outline;
- *boundary only*: an IoU of 0.5 to 0.75, and nine tenths of the wrong pixels lie along the outline;
- *other*: any other mask with an IoU below 0.75.

The object of a mask is the one with the highest IoU, which must be 0.1 or more except where masks are merged. *Along
the outline* means within a tenth of the square root of the object's area, 1 px or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.evaluation.errors.matching import Bools, Floats, ImageOverlaps, Ints, overlaps_of
from protomask.evaluation.errors.tide import BACKGROUND_IOU
from protomask.evaluation.truth import Row
from protomask.masks.boundary import dilate, erode
from protomask.masks.rle import rle_to_runs
from protomask.masks.runs import MaskWindow, runs_to_window

FAULTS = ("merged", "split", "cut by the box", "leakage", "boundary only", "other")
"""Faults of masks, the one that is looked for first in front."""
MERGED, SPLIT, CUT, LEAKAGE, BOUNDARY, OTHER = range(len(FAULTS))
GOOD, NOT_EXAMINED = -1, -2
GOOD_IOU, MATCHING_IOU = 0.75, 0.5
_COVERED, _INSIDE, _PART, _ALONG = 0.5, 0.75, 0.1, 0.9
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImageFaults:
    """The masks of one image.

    Attributes:
        faults: (D,) int8, an index of `FAULTS`, `GOOD`, or `NOT_EXAMINED` (no object, low score, in a crowd).
        targets: (D,) object of each mask, -1 without any.
        leaked: (D,) part of a mask outside of its object and not along its outline; NaN where it was not measured.
        outside_box: (D,) part of a mask outside its box; NaN where it was not measured.

    """

    faults: NDArray[np.int8]
    targets: Ints
    leaked: Floats
    outside_box: Floats


def find_faults(overlaps: ImageOverlaps, counted: Bools, boxes: Sequence[Box] | None) -> ImageFaults:
    """Say what is wrong with the masks of one image.

    Args:
        overlaps: of masks.
        counted: (D,) the masks to look at.
        boxes: xywh, px, the box that each mask was found in; None where it is not known, and then no mask is cut.

    """
    count = len(overlaps.rows)
    faults = np.full(count, NOT_EXAMINED, dtype=np.int8)
    nowhere, shares = np.full(count, -1, dtype=np.int64), np.full((2, count), np.nan)
    if not overlaps.objects or not counted.any():
        return ImageFaults(faults=faults, targets=nowhere, leaked=shares[0], outside_box=shares[1])
    ious = overlaps.ious
    targets, best = ious.argmax(axis=1), ious.max(axis=1)
    of_object, of_mask = _covered(overlaps)
    merged = counted & _merged(overlaps.objects, of_object, targets)
    examined = (counted & (best >= BACKGROUND_IOU)) | merged
    own = np.zeros_like(overlaps.same)
    own[np.arange(count), targets] = counted
    split = _split(overlaps.rows, own & (of_mask >= _INSIDE) & (of_object >= _PART) & (of_object < _INSIDE))
    windows: dict[int, MaskWindow] = {}
    for index in np.flatnonzero(examined).tolist():
        target = int(targets[index])
        if target not in windows:
            windows[target] = window_of(overlaps.objects[target])
        box = None if boxes is None else boxes[index]
        pair = _Pair.of(window_of(overlaps.rows[index]), windows[target], box)
        shares[0, index] = pair.leaked
        shares[1, index] = pair.outside_box if box is not None else np.nan
        faults[index] = MERGED if merged[index] else SPLIT if split[index] else pair.fault(float(best[index]))
    return ImageFaults(faults=faults, targets=np.where(examined, targets, -1), leaked=shares[0], outside_box=shares[1])


def window_of(row: Row) -> MaskWindow:
    """The pixels of the mask of a record."""
    runs, size = rle_to_runs(row["segmentation"])
    return runs_to_window(runs, size[0])


def _covered(overlaps: ImageOverlaps) -> tuple[Floats, Floats]:
    """(D, G) part of each object that each mask covers, and part of each mask that lies in each object."""
    areas = [_areas(side) for side in (overlaps.rows, overlaps.objects)]
    shared = overlaps.ious / (1 + overlaps.ious) * (areas[0][:, None] + areas[1][None])
    return shared / np.maximum(areas[1], 1)[None], shared / np.maximum(areas[0], 1)[:, None]


def _areas(rows: Sequence[Row]) -> Floats:
    from pycocotools import mask as coco_mask

    return np.array([coco_mask.area(row["segmentation"]) for row in rows], dtype=np.float64)


def _merged(objects: Sequence[Row], of_object: Floats, targets: Ints) -> Bools:
    """(D,) which masks cover half of an object other than their own; what both objects share does not count."""
    shared = overlaps_of(objects, objects, "segm", crowd=True)  # (G, G) part of the first in the second
    own = shared[:, targets].T
    beyond = of_object - own
    beyond[np.arange(len(targets)), targets] = 0
    covers_own = of_object[np.arange(len(targets)), targets] >= _COVERED
    several: Bools = (beyond >= _COVERED).any(axis=1) & covers_own
    return several


def _split(rows: Sequence[Row], pieces: Bools) -> Bools:
    """(D,) which masks are one of several pieces of an object, apart from each other.

    Args:
        rows: D masks.
        pieces: (D, G) which of them may be a piece of which object.

    """
    split = np.zeros(len(rows), dtype=np.bool_)
    for column in pieces.T:
        members = np.flatnonzero(column)
        if len(members) < 2:
            continue
        masks = [rows[index] for index in members.tolist()]
        inside = overlaps_of(masks, masks, "segm", crowd=True)
        apart = np.maximum(inside, inside.T) < _COVERED
        split[members[apart.any(axis=1)]] = True
    return split


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Parts in which a mask and its object differ: outside it, outside the box, along the outline."""

    leaked: float
    outside_box: float
    cut: float
    along: float

    @classmethod
    def of(cls, found: MaskWindow, true: MaskWindow, box: Box | None) -> _Pair:
        """Compare two masks, in the frame of the image."""
        area = int(np.count_nonzero(true.mask))
        reach = max(1, round(math.sqrt(area) / 10))
        top, left = min(found.top, true.top) - reach, min(found.left, true.left) - reach
        ends = [
            max(getattr(found, side) + found.mask.shape[axis], getattr(true, side) + true.mask.shape[axis]) + reach
            for axis, side in enumerate(("top", "left"))
        ]
        mask, truth = (_placed(one, top, left, (ends[0] - top, ends[1] - left)) for one in (found, true))
        near, core = dilate(truth, reach), erode(truth, reach)
        size, wrong = max(1, int(np.count_nonzero(mask))), mask ^ truth
        outside = np.zeros_like(mask) if box is None else ~_inside(box, top, left, mask.shape)
        return cls(
            leaked=float(np.count_nonzero(mask & ~near) / size),
            outside_box=float(np.count_nonzero(mask & outside) / size),
            cut=float(np.count_nonzero(truth & outside & ~mask) / max(1, area)),
            along=float(np.count_nonzero(wrong & near & ~core) / max(1, int(np.count_nonzero(wrong)))),
        )

    def fault(self, iou: float) -> int:
        """An index of `FAULTS`, or `GOOD`."""
        if self.cut >= _PART:
            return CUT
        if self.leaked >= _PART:
            return LEAKAGE
        if iou >= GOOD_IOU:
            return GOOD
        return BOUNDARY if iou >= MATCHING_IOU and self.along >= _ALONG else OTHER


def _placed(window: MaskWindow, top: int, left: int, size: tuple[int, int]) -> Bools:
    canvas = np.zeros(size, dtype=np.bool_)
    row, column = window.top - top, window.left - left
    canvas[row : row + window.mask.shape[0], column : column + window.mask.shape[1]] = window.mask
    return canvas


def _inside(box: Box, top: int, left: int, size: tuple[int, ...]) -> Bools:
    """Pixels whose centres are in the box, or that its sides cut: a box need not end between pixels."""
    x, y, width, height = box
    rows, columns = np.arange(size[0]) + top, np.arange(size[1]) + left
    in_rows = (rows + 1 > y) & (rows < y + height)
    in_columns = (columns + 1 > x) & (columns < x + width)
    return in_rows[:, None] & in_columns[None]
