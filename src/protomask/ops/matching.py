"""Which anchor learns which object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from protomask.errors import ConfigError
from protomask.ops.boxes import cxcywh_to_xyxy, pairwise_ioa, pairwise_iou

NEUTRAL = -1
BACKGROUND = 0
Sampler = Callable[[Tensor, int, float], Tensor]
"""Labels (N,), a count and a share of positives to the indices that train, see `sample_balanced`."""


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """Bipartite-then-threshold assignment of ground-truth boxes to anchors (SSD, section 2.2), with crowd neutrals.

    Every object first gets an anchor of its own, best pairs first; every other anchor takes the object it overlaps most
    if the overlap is large enough.

    Attributes:
        positive_iou: an anchor with at least this IoU is positive.
        negative_iou: an anchor below this IoU is background; between the two it is neutral (not trained).
        crowd_overlap: an anchor that is not positive and has more than this share of its area in a crowd region is
            neutral.

    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    crowd_overlap: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ConfigError(
                "matcher: expected 0 <= negative_iou <= positive_iou <= 1, "
                f"got negative_iou={self.negative_iou}, positive_iou={self.positive_iou}"
            )

    def __call__(
        self, boxes: Tensor, labels: Tensor, anchors_cxcywh: Tensor, crowd_boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Match one image.

        Args:
            boxes: (N, 4) xyxy objects, no crowds, in the anchors' frame.
            labels: (N,) int64, 0-based.
            anchors_cxcywh: (A, 4).
            crowd_boxes: (M, 4) xyxy crowd regions.

        Returns:
            matched_idxs: (A,) int64, index of the object each anchor overlaps most (0 where there is no object).
            matched_labels: (A,) int64: label + 1 for positives, 0 background, -1 neutral.

        """
        anchors = cxcywh_to_xyxy(anchors_cxcywh)
        if len(boxes) == 0:
            matched_idxs = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
            matched_labels = torch.full_like(matched_idxs, BACKGROUND)
        else:
            iou = pairwise_iou(boxes, anchors).nan_to_num_(nan=0.0)
            best_iou, matched_idxs = iou.max(dim=0)
            own_anchor = assign_bipartite(iou)
            objects = torch.arange(len(own_anchor), device=anchors.device)
            has_anchor = own_anchor >= 0
            best_iou[own_anchor[has_anchor]] = 2.0
            matched_idxs[own_anchor[has_anchor]] = objects[has_anchor]
            matched_labels = labels[matched_idxs] + 1
            matched_labels[best_iou < self.positive_iou] = NEUTRAL
            matched_labels[best_iou < self.negative_iou] = BACKGROUND
        if crowd_boxes is not None and len(crowd_boxes):
            in_crowd = pairwise_ioa(anchors, crowd_boxes).amax(dim=1) > self.crowd_overlap
            matched_labels[in_crowd & (matched_labels <= BACKGROUND)] = NEUTRAL
        return matched_idxs, matched_labels


def assign_bipartite(overlaps: Tensor) -> Tensor:
    """Give every row a column of its own, largest overlaps first.

    Args:
        overlaps: (N, A), non-negative.

    Returns:
        (N,) int64 column of each row; -1 for rows left over when N > A.

    """
    remaining = overlaps.clone()
    assigned = torch.full((len(overlaps),), -1, dtype=torch.int64, device=overlaps.device)
    # The best column of a row changes only when another row takes it: one maximum per row, not one per round and row.
    best, column = remaining.max(dim=1)
    for _ in range(min(overlaps.shape)):
        row = int(best.argmax())
        taken = int(column[row])
        assigned[row] = taken
        remaining[:, taken] = -1
        best[row] = -2
        bereft = (column == taken) & (best >= 0)
        if bereft.any():
            best[bereft], column[bereft] = remaining[bereft].max(dim=1)
    return assigned


def sample_balanced(labels: Tensor, count: int, positive_share: float) -> Tensor:
    """Indices of at most ``count`` random entries, at most a share of them positive.

    Args:
        labels: (N,) int64: positive, 0 background, negative to be left out.
        count: of entries.
        positive_share: in 0..1.

    Returns:
        (M,) int64, ascending.

    """
    positive, negative = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    num_positive = min(len(positive), int(count * positive_share))
    num_negative = min(len(negative), count - num_positive)
    drawn = [
        rows[torch.randperm(len(rows), device=rows.device)[:number]]
        for rows, number in ((positive, num_positive), (negative, num_negative))
    ]
    return torch.cat(drawn).sort().values


def in_crowd(boxes: Tensor, crowd: Tensor, share: float) -> Tensor:
    """(N,) bool: more than a share of the box lies in one of (C, 4) crowd regions."""
    if len(crowd) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return (pairwise_ioa(boxes, crowd) > share).any(dim=1)
