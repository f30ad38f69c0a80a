"""Detections as means of themselves and of what NMS suppresses for them (Gidaris and Komodakis 2015, section 3.2).

Neighbouring points predict an object several times, each with errors of its own. The mean of their boxes, and of the
coefficients of their masks, is better than the best of them alone. A mask is a weighted sum of prototypes, so the mean
of coefficients gives the mean of the masks' logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import pairwise_iou

LEAST_IOU = 0.7
"""Of boxes that are taken for predictions of one object."""


class Votes(NamedTuple):
    """Which of K candidates make which of N detections; V pairs.

    Attributes:
        owners: (V,) int64, the detection.
        rows: (V,) int64, the candidate.
        weights: (V,) float64, that add up to 1 for each detection.

    """

    owners: NDArray[np.int64]
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]

    def average(self, values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """(N, n) float32 means of (V, n) values, those of ``rows``; ``count`` is N."""
        total = np.zeros((count, values.shape[1]))
        np.add.at(total, self.owners, self.weights[:, None] * values)
        return total.astype(np.float32)

    def of(self, detections: NDArray[np.int64]) -> Votes:
        """The votes for some of the detections, which are numbered anew in this order."""
        places = np.full(int(self.owners.max(initial=-1)) + 1, -1)
        places[detections] = np.arange(len(detections))
        theirs = places[self.owners] >= 0
        return Votes(places[self.owners[theirs]], self.rows[theirs], self.weights[theirs])


def find_votes(
    boxes: NDArray[np.float32],
    class_scores: NDArray[np.float32],
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Votes:
    """Let candidates vote for the detection of their class that they overlap most, by their scores.

    Args:
        boxes: (K, 4) xyxy of candidates.
        class_scores: (C, K) of them.
        kept: (N,) which of them NMS kept.
        labels: (N,) of these.

    """
    owners, rows, weights = [], [], []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        overlaps = np.nan_to_num(pairwise_iou(boxes[kept[own]], boxes), nan=0.0)
        best = overlaps.argmax(axis=0)
        voting = (overlaps[best, np.arange(len(boxes))] > LEAST_IOU) & (class_scores[label] > 0)
        voting[kept[own]] = False
        owners += [own[best[voting]], own]
        rows += [np.flatnonzero(voting), kept[own]]
        weights += [class_scores[label, voting], class_scores[label, kept[own]]]
    if not owners:
        return Votes(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    owner, weight = np.concatenate(owners), np.concatenate(weights).astype(np.float64)
    weight = np.maximum(weight, np.finfo(np.float32).tiny)
    total = np.bincount(owner, weight, minlength=len(kept))
    return Votes(owner, np.concatenate(rows), weight / total[owner])
