"""Whether an exported file finds what the model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from protomask.errors import ExportError
from protomask.inference.base import ImagePredictor
from protomask.ops.boxes import pairwise_iou
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
    model: ImagePredictor, exported: ImagePredictor, images: Sequence[Tensor], *, min_score: float = 0.0, **options: Any
) -> Agreement:
    """Predict every image with both.

    Args:
        model: the reference.
        exported: the same model in a file.
        images: (3, H, W) uint8 RGB each.
        min_score: detections of a class score above this are compared.
        options: of the model, those that the file has settled.

    Raises:
        ExportError: the model finds nothing in any of the images.

    """
    pairs = []
    for image in images:
        [wanted] = model.predict_images([image], score_threshold=min_score, **options)
        [found] = exported.predict_images([image], score_threshold=min_score)
        pairs.append(_compare_one(wanted, found, options["max_detections"], min_score))
    detections, unmatched, scores, boxes, ious = zip(*pairs, strict=True)
    if not sum(detections):
        raise ExportError(
            f"images: expected some that show what the model knows, got {len(images)} in which it finds nothing, so "
            "there is nothing to compare"
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
    alone = torch.ones(len(found), dtype=torch.bool)
    alone[partner[paired]] = False
    # Where a list is full its last places may go to either of two that score alike, as may those at the threshold.
    limits = [float(one.class_scores[-1]) for one in (wanted, found) if len(one) >= max_detections]
    limit = max([min_score, *limits]) + _TIE
    unmatched = int((wanted.class_scores[~paired] > limit).sum() + (found.class_scores[alone] > limit).sum())
    one, other = wanted[paired], found[partner[paired]]
    if not len(one):
        return len(wanted), unmatched, 0.0, 0.0, 1.0
    differences = [(one.class_scores - other.class_scores).abs().max()]
    if one.mask_scores is not None and other.mask_scores is not None:
        differences.append((one.mask_scores - other.mask_scores).abs().max())
    box_difference = float((one.boxes - other.boxes).abs().max())
    mask_iou = min(_mask_iou(first, second) for first, second in zip(one, other, strict=True))
    return len(wanted), unmatched, float(max(differences)), box_difference, mask_iou


def _partners(wanted: Instances, found: Instances) -> Tensor:
    """(N,) int64: which of ``found`` each of ``wanted`` is, -1 for none; the best overlaps go first."""
    partner = torch.full((len(wanted),), -1)
    # Boxes that were cut down to nothing overlap nothing, not even their like.
    same = (wanted.boxes[:, None] - found.boxes).abs().amax(dim=-1) <= _SAME_BOX
    overlap = torch.where(same, 1.0, pairwise_iou(wanted.boxes, found.boxes).nan_to_num(0))
    overlap *= wanted.labels[:, None] == found.labels
    # Where boxes agree alike, the nearer score decides.
    overlap -= (wanted.class_scores[:, None] - found.class_scores).abs() * 1e-3
    for _ in range(min(len(wanted), len(found))):
        best = int(overlap.argmax())
        row, column = divmod(best, len(found))
        if overlap[row, column] < _SAME_OBJECT_IOU:
            break
        partner[row] = column
        overlap[row], overlap[:, column] = -1, -1
    return partner


def _mask_iou(one: Instances, other: Instances) -> float:
    first, second = one.masks[0], other.masks[0]
    differing = int((first ^ second).sum())
    return 1.0 if differing <= 1 else float((first & second).sum() / (first | second).sum())
