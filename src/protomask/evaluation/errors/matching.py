"""Matching by COCO's rules from overlaps that are already known, and the average precision that follows.

`protomask.evaluation.match` hands whole data sets to a library. Here overlaps may be anything (the lesser of mask and
boundary IoU, those of a repaired mask), and which detection took which object is what is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.evaluation.match import IouType
from protomask.evaluation.truth import Row

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""IoU of COCO's AP."""
_RECALLS: Floats = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True)
class ImageOverlaps:
    """The detections of one image against its objects.

    Attributes:
        rows: D detections as `protomask.evaluation.match.prepare_results` makes them, best first.
        objects: G annotations that are not crowds.
        ious: (D, G) of boxes or of masks.
        same: (D, G) which pairs are of one class.
        in_crowd: (D,) the largest part of each detection that lies in one crowd region of its class.

    """

    rows: Sequence[Row]
    objects: Sequence[Row]
    ious: Floats
    same: Bools
    in_crowd: Floats

    @property
    def scores(self) -> Floats:
        """(D,), descending."""
        return np.array([row["score"] for row in self.rows], dtype=np.float64)

    @property
    def class_ious(self) -> Floats:
        """(D, G) IoU of pairs of one class, 0 of others."""
        return np.where(self.same, self.ious, 0.0)


def compare_image(rows: Sequence[Row], annotations: Sequence[Row], iou_type: IouType, limit: int) -> ImageOverlaps:
    """Measure the overlaps of one image.

    Args:
        rows: its detections, in any order.
        annotations: its objects and crowds.
        iou_type: boxes or masks.
        limit: the best detections of each class that count.

    """
    kept, seen = [], defaultdict[int, int](int)
    for row in sorted(rows, key=lambda row: -row["score"]):
        seen[row["category_id"]] += 1
        if seen[row["category_id"]] <= limit:
            kept.append(row)
    objects = [one for one in annotations if not one["iscrowd"]]
    crowds = [one for one in annotations if one["iscrowd"]]
    in_crowd = np.where(_same(kept, crowds), overlaps_of(kept, crowds, iou_type, crowd=True), 0.0)
    return ImageOverlaps(
        rows=kept,
        objects=objects,
        ious=overlaps_of(kept, objects, iou_type),
        same=_same(kept, objects),
        in_crowd=in_crowd.max(axis=1, initial=0.0),
    )


def overlaps_of(first: Sequence[Row], second: Sequence[Row], iou_type: IouType, *, crowd: bool = False) -> Floats:
    """(D, G) IoU of boxes or masks; with ``crowd`` the part of the first that lies in the second."""
    from pycocotools import mask as coco_mask

    if not first or not second:
        return np.zeros((len(first), len(second)))
    flags = [int(crowd)] * len(second)
    if iou_type == "segm":
        pair = ([one["segmentation"] for one in first], [one["segmentation"] for one in second])
        return np.asarray(coco_mask.iou(*pair, flags), dtype=np.float64)
    boxes = [np.array([one["bbox"] for one in side], dtype=np.float64) for side in (first, second)]
    return np.asarray(coco_mask.iou(*boxes, flags), dtype=np.float64)


def _same(rows: Sequence[Row], objects: Sequence[Row]) -> Bools:
    left, right = ([one["category_id"] for one in side] for side in (rows, objects))
    same: Bools = np.array(left, dtype=np.int64)[:, None] == np.array(right, dtype=np.int64)[None]
    return same


def match_detections(class_ious: Floats, thresholds: Floats) -> Ints:
    """Give each detection the free object of its class that it overlaps most, the best detection first.

    Args:
        class_ious: (D, G) IoU of pairs of one class, 0 of others; best detection first.
        thresholds: (T,) ascending IoU from which a detection matches, above 0.

    Returns:
        (T, D) index of the object, -1 where there is none. Of equal overlaps the last object is taken, as COCO does.

    """
    count, num_objects = class_ious.shape
    matches = np.full((len(thresholds), count), -1, dtype=np.int64)
    if num_objects == 0:
        return matches
    limits = np.minimum(thresholds, 1 - 1e-10)
    free = np.ones((len(thresholds), num_objects), dtype=np.bool_)
    every = np.arange(len(thresholds))
    for index in np.flatnonzero(class_ious.max(axis=1) >= limits[0]).tolist():
        open_ious = np.where(free, class_ious[index], -1.0)
        best = num_objects - 1 - open_ious[:, ::-1].argmax(axis=1)
        hit = open_ious[every, best] >= limits
        matches[hit, index] = best[hit]
        free[every[hit], best[hit]] = False
    return matches


def outcomes(matches: Ints, in_crowd: Floats, thresholds: Floats) -> NDArray[np.int8]:
    """(T, D) int8: 1 for a detection that matches, 0 for a wrong one, -1 for one in a crowd, which does not count."""
    found = matches >= 0
    left_out = ~found & (in_crowd[None] >= np.minimum(thresholds, 1 - 1e-10)[:, None])
    return np.where(left_out, -1, found).astype(np.int8)


def average_precision(scores: Floats, hits: Bools, num_objects: int) -> float | None:
    """COCO's AP of one class at one IoU: mean of the precision at 101 recalls.

    Args:
        scores: (N,) of the detections that count, images one after another.
        hits: (N,) which of them match.
        num_objects: to be found. None of these is None.

    """
    if num_objects == 0:
        return None
    right = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    recall = right / num_objects
    precision = right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALLS)
    return float(np.append(precision, 0.0)[np.minimum(place, len(precision))].mean())


def mean_precision(scores: Floats, labels: Ints, results: NDArray[np.int8], counts: Sequence[int]) -> float | None:
    """Mean over classes with objects of the AP at one IoU.

    Args:
        scores: (N,) of all detections.
        labels: (N,) class of each, 0..K-1.
        results: (N,) as `outcomes` says.
        counts: objects of each of the K classes.

    Returns:
        In [0, 1]; None without any object.

    """
    values = []
    for label, count in enumerate(counts):
        members = (labels == label) & (results >= 0)
        value = average_precision(scores[members], results[members] > 0, count)
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else None
