"""Which detection of an exported file is which of the model's, and how much the two differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import pairwise_iou
from protomask.masks.runs import Runs, intersect_runs, runs_area
from protomask.structures.instances import Instances

_SAME_OBJECT_IOU = 0.5
_SAME_BOX = 0.1  # pixels of the image
_TIE = 1e-4  # scores


class Limits(NamedTuple):
    """How much a file may differ from the model: scores, boxes in pixels of the image, IoU of an object's two masks."""

    score: float
    box: float
    mask_iou: float


class Differences(NamedTuple):
    """How the detections of one image, or of several, differ.

    Attributes:
        detections: of the model, above the threshold.
        unmatched: above the threshold, of one of the two only: no other of its class overlaps it by half.
        deviating: pairs above the threshold that differ by more than the limits.
        score: largest difference of the class and mask scores of these pairs.
        box: largest difference of their boxes, pixels of the image.
        mask_iou: smallest of their two masks; those that differ by one pixel count as 1.
        weaker: detections of the model that are not above the threshold.
        weaker_unmatched: those of one of the two only.

    """

    detections: int = 0
    unmatched: int = 0
    deviating: int = 0
    score: float = 0.0
    box: float = 0.0
    mask_iou: float = 1.0
    weaker: int = 0
    weaker_unmatched: int = 0


def together(each: Sequence[Differences]) -> Differences:
    """The differences of several images as one."""
    return Differences(
        detections=sum(one.detections for one in each),
        unmatched=sum(one.unmatched for one in each),
        deviating=sum(one.deviating for one in each),
        score=max((one.score for one in each), default=0.0),
        box=max((one.box for one in each), default=0.0),
        mask_iou=min((one.mask_iou for one in each), default=1.0),
        weaker=sum(one.weaker for one in each),
        weaker_unmatched=sum(one.weaker_unmatched for one in each),
    )


def compare_image(
    wanted: Instances,
    found: Instances,
    *,
    score_threshold: float,
    limits: Limits,
    max_detections: int,
    masks: bool = True,
) -> Differences:
    """Compare all that two predictors find in one image.

    Args:
        wanted: of the model, whatever it scores.
        found: of the file, likewise.
        score_threshold: final score above which detections matter.
        limits: of the difference of two that are the same.
        max_detections: length at which a list is full.
        masks: whether their masks must agree, too.

    """
    other = one_to_one(wanted, found)
    paired = other >= 0
    extra = np.ones(len(found), dtype=np.bool_)
    extra[other[paired]] = False
    # Where a list is full its last places may go to either of two that score alike.
    ends = [float(one.class_scores.min()) for one in (wanted, found) if len(one) >= max_detections]
    end = max(0.0, *(end + _TIE for end in ends)) if ends else 0.0
    lost = wanted.scores[~paired & (wanted.class_scores > end)]
    added = found.scores[extra & (found.class_scores > end)]
    alone = np.concatenate((lost, added))
    one, two = wanted[paired], found[other[paired]]
    matters = np.maximum(one.scores, two.scores) > score_threshold
    one, two = one[matters], two[matters]
    score, box, mask_iou = _pair_differences(one, two)
    too_much = (score > limits.score) | (box > limits.box)
    if masks:
        too_much |= mask_iou < limits.mask_iou
    strong = int((wanted.scores > score_threshold).sum())
    unmatched = int((alone > score_threshold).sum())
    return Differences(
        detections=strong,
        unmatched=unmatched,
        deviating=int(too_much.sum()),
        score=float(score.max(initial=0.0)),
        box=float(box.max(initial=0.0)),
        mask_iou=float(mask_iou.min(initial=1.0)),
        weaker=len(wanted) - strong,
        weaker_unmatched=len(alone) - unmatched,
    )


def one_to_one(wanted: Instances, found: Instances) -> NDArray[np.int64]:
    """(N,) int64: which of ``found`` each of ``wanted`` is, -1 for none; the best overlaps go first."""
    other = np.full(len(wanted), -1, dtype=np.int64)
    if not len(wanted) or not len(found):
        return other
    # Boxes that were cut down to nothing overlap nothing, not even their like.
    same = np.abs(wanted.boxes[:, None] - found.boxes).max(axis=-1) <= _SAME_BOX
    overlap = np.where(same, 1.0, np.nan_to_num(pairwise_iou(wanted.boxes, found.boxes)))
    overlap *= wanted.labels[:, None] == found.labels
    # Where boxes agree alike, the nearer score decides.
    overlap -= np.abs(wanted.class_scores[:, None] - found.class_scores) * 1e-3
    for _ in range(min(len(wanted), len(found))):
        row, column = divmod(int(overlap.argmax()), len(found))
        if overlap[row, column] < _SAME_OBJECT_IOU:
            break
        other[row] = column
        overlap[row], overlap[:, column] = -1, -1
    return other


def _pair_differences(
    one: Instances, two: Instances
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(N,) differences of scores and boxes, and IoUs of masks, of instances in the same order."""
    score = np.abs(one.class_scores - two.class_scores).astype(np.float64)
    if one.mask_scores is not None and two.mask_scores is not None:
        score = np.maximum(score, np.abs(one.mask_scores - two.mask_scores))
    box = np.abs(one.boxes - two.boxes).max(axis=1, initial=0.0).astype(np.float64)
    mask_iou = np.array([_mask_iou(first, second) for first, second in zip(one.runs(), two.runs(), strict=True)])
    return score, box, mask_iou.reshape(-1).astype(np.float64)


def _mask_iou(first: Runs, second: Runs) -> float:
    shared, areas = runs_area(intersect_runs(first, second)), runs_area(first) + runs_area(second)
    differing = areas - 2 * shared
    return 1.0 if differing <= 1 else shared / (areas - shared)
