"""Whether an exported file finds what the model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import pairwise_iou
from protomask.detection.options import PredictOptions
from protomask.errors import ExportError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.masks.runs import Runs, intersect_runs, runs_area
from protomask.structures.instances import Instances


class Limits(NamedTuple):
    """How much a file may differ from the model: scores, boxes in pixels of the image, IoU of an object's two masks."""

    score: float
    box: float
    mask_iou: float


ONE_STAGE = Limits(score=1e-3, box=0.5, mask_iou=0.95)
"""Trained models differ by a hundredth of this; untrained or unsure ones make much of what is rounded."""
TWO_STAGES = Limits(score=1e-3, box=0.5, mask_iou=0.9)
"""What the first stage rounds decides what the second one sees."""
_SAME_OBJECT_IOU = 0.5
_SAME_BOX = 0.1  # pixels of the image
_TIE = 1e-4  # scores


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a file's detections compare with the model's, over some images.

    Attributes:
        images: how many were compared.
        detections: of the model.
        unmatched: detections that only one of the two has: no other of its class overlaps it by half.
        score_difference: largest, of class and mask scores.
        box_difference: largest, pixels of the image.
        mask_iou: smallest of one object's two masks; those that differ by one pixel count as 1.

    """

    images: int
    detections: int
    unmatched: int
    score_difference: float
    box_difference: float
    mask_iou: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.detections} detections on {self.images} images, {self.unmatched} without a partner; largest "
            f"difference of scores {self.score_difference:.1e}, of boxes {self.box_difference:.1e} px; smallest IoU of "
            f"masks {self.mask_iou:.4f}"
        )

    def check(self, name: str, limits: Limits, *, masks: bool) -> None:
        """Raise if the two are not the same but for rounding.

        Args:
            name: of the file, for the message.
            limits: what counts as rounding.
            masks: theirs must be the same, too; on a grid of another size they cannot be.

        Raises:
            ExportError: they differ.

        """
        same = (
            self.unmatched == 0
            and self.score_difference <= limits.score
            and self.box_difference <= limits.box
            and (self.mask_iou >= limits.mask_iou or not masks)
        )
        if not same:
            raise ExportError(
                f"{name}: expected the detections of the PyTorch model (scores within {limits.score:g}, boxes "
                f"within {limits.box:g} px, IoU of masks at least {limits.mask_iou:g}), got {self}"
            )


def compare(
    model: Predictor,
    exported: Predictor,
    images: Sequence[Pixels],
    *,
    options: PredictOptions,
    settled: PredictOptions | None = None,
) -> Agreement:
    """Predict every image with both.

    Args:
        model: the reference.
        exported: the same model in a file.
        images: (H, W, 3) uint8 RGB each.
        options: of the model; detections that score above their ``score_threshold`` are compared.
        settled: of the file, where it has settled some.

    Raises:
        ExportError: the model finds nothing in any of the images.

    """
    pairs = []
    limit = model.limits(options).max_detections
    for image in images:
        [wanted] = model.predict_images([image], options)
        [found] = exported.predict_images([image], settled or options)
        pairs.append(_compare_one(wanted, found, limit, options.score_threshold))
    detections, unmatched, scores, boxes, ious = zip(*pairs, strict=True)
    if not sum(detections):
        raise ExportError(
            f"nothing to compare: the model finds nothing in these {len(images)} images; give some that show what it "
            "knows as images"
        )
    return Agreement(
        images=len(images), detections=sum(detections), unmatched=sum(unmatched), score_difference=max(scores),
        box_difference=max(boxes), mask_iou=min(ious),
    )  # fmt: skip


def _compare_one(
    wanted: Instances, found: Instances, max_detections: int, min_score: float
) -> tuple[int, int, float, float, float]:
    """Detections, unmatched ones, and the largest differences of one image."""
    partner = _partners(wanted, found)
    paired = partner >= 0
    alone = np.ones(len(found), dtype=np.bool_)
    alone[partner[paired]] = False
    # Where a list is full its last places may go to either of two that score alike, as may those at the threshold.
    limits = [float(one.class_scores.min()) for one in (wanted, found) if len(one) >= max_detections]
    limit = max([min_score, *limits]) + _TIE
    unmatched = int((wanted.class_scores[~paired] > limit).sum() + (found.class_scores[alone] > limit).sum())
    one, other = wanted[paired], found[partner[paired]]
    if not len(one):
        return len(wanted), unmatched, 0.0, 0.0, 1.0
    differences = [np.abs(one.class_scores - other.class_scores).max()]
    if one.mask_scores is not None and other.mask_scores is not None:
        differences.append(np.abs(one.mask_scores - other.mask_scores).max())
    box_difference = float(np.abs(one.boxes - other.boxes).max())
    mask_iou = min(_mask_iou(first, second) for first, second in zip(one.runs(), other.runs(), strict=True))
    return len(wanted), unmatched, float(max(differences)), box_difference, mask_iou


def _partners(wanted: Instances, found: Instances) -> NDArray[np.int64]:
    """(N,) int64: which of ``found`` each of ``wanted`` is, -1 for none; the best overlaps go first."""
    partner = np.full(len(wanted), -1, dtype=np.int64)
    if not len(wanted) or not len(found):
        return partner
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
        partner[row] = column
        overlap[row], overlap[:, column] = -1, -1
    return partner


def _mask_iou(first: Runs, second: Runs) -> float:
    shared, areas = runs_area(intersect_runs(first, second)), runs_area(first) + runs_area(second)
    differing = areas - 2 * shared
    return 1.0 if differing <= 1 else shared / (areas - shared)
