"""Soft-NMS (Bodla et al. 2017): overlapping detections lose score instead of being dropped.

Arguments and results are those of `protomask.detection.nms`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import Floats, Kept, check_arrays, check_number
from protomask.errors import ConfigError

SoftMethod = Literal["linear", "gaussian"]
MIN_SCORE = 0.001
"""Soft-NMS stops when the best remaining score is below this."""
SIGMA = 0.5
"""Sigma of the gaussian decay."""


def soft_nms(
    boxes: Floats,
    scores: Floats,
    *,
    method: SoftMethod = "linear",
    iou_threshold: float = 0.3,
    sigma: float = SIGMA,
    min_score: float = MIN_SCORE,
    offset: float = 0.0,
) -> tuple[NDArray[np.int64], Floats]:
    """Soft-NMS of one class (Bodla et al. 2017): overlapping boxes lose score instead of being dropped.

    The best remaining box is picked again and again, and each time the others are rescored by their IoU with it:
    ``linear`` times (1 - IoU) where IoU > ``iou_threshold``; ``gaussian`` times exp(-IoU^2 / sigma). In float64.

    Args:
        boxes: (N, 4), see the module.
        scores: (N,).
        method: the decay.
        iou_threshold: of the linear decay, 0..1.
        sigma: of the gaussian decay, > 0.
        min_score: stop when the best remaining score is below it.
        offset: added to widths and heights (1 for the legacy pixel convention), in the unit of ``boxes``.

    Returns:
        (K,) int64 rows of ``boxes`` in the order picked and (K,) their decayed scores, descending.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    if scores.ndim != 1:
        raise ConfigError(f"scores: expected shape (N,), got {scores.shape}")
    indices, _, decayed = batched_soft_nms(
        boxes, scores[None], method=method, iou_threshold=iou_threshold, sigma=sigma, min_score=min_score, offset=offset
    )
    return indices, decayed


def batched_soft_nms(
    boxes: Floats,
    scores: Floats,
    *,
    method: SoftMethod = "linear",
    iou_threshold: float = 0.3,
    sigma: float = SIGMA,
    min_score: float = MIN_SCORE,
    offset: float = 0.0,
    max_detections: int | None = None,
    score_threshold: float | None = None,
) -> Kept:
    """Soft-NMS, each class by itself.

    Parameters as `soft_nms`, and ``max_detections`` over all classes (None: all); only boxes that score above
    ``score_threshold`` before any decay take part (None: all).
    """
    check_arrays(boxes, scores, iou_threshold, max_detections)
    if method not in ("linear", "gaussian"):
        raise ConfigError(f"method: expected 'linear' or 'gaussian', got {method!r}")
    check_number("sigma", sigma, minimum=0, exclusive=True)
    check_number("min_score", min_score, minimum=0)
    check_number("offset", offset, minimum=0)

    corners = boxes.astype(np.float64)
    remaining = scores.astype(np.float64)
    if score_threshold is not None:
        remaining[~(scores > np.float32(score_threshold))] = -np.inf

    def decay(row: int) -> NDArray[np.float64]:
        return decay_of(_iou_with(corners, row, offset), method, iou_threshold=iou_threshold, sigma=sigma)

    return pick_in_turn(remaining, decay, max_detections=max_detections, min_score=min_score)


def decay_of(
    overlaps: NDArray[np.float64], method: SoftMethod, *, iou_threshold: float, sigma: float = SIGMA
) -> NDArray[np.float64]:
    """Factor of the scores of what overlaps a picked detection this much."""
    if method == "linear":
        return np.where(overlaps > iou_threshold, 1 - overlaps, 1)
    decay: NDArray[np.float64] = np.exp(-(overlaps**2) / sigma)
    return decay


def pick_in_turn(
    remaining: NDArray[np.float64],
    decay: Callable[[int], NDArray[np.float64]],
    *,
    max_detections: int | None,
    min_score: float = MIN_SCORE,
) -> Kept:
    """Pick the best pair of a class and a row again and again, and let the others of its class lose score.

    Args:
        remaining: (C, N) scores, minus infinity for pairs that take no part; changed in place.
        decay: row to the factors (N,) of all rows.
        max_detections: maximum number of picks.
        min_score: no pair below this is picked.

    """
    limit = remaining.size if max_detections is None else max_detections
    rows: list[int] = []
    labels: list[int] = []
    picked: list[float] = []
    # Scores only fall, so the picks of a class come in descending order, and the classes can be merged as they go:
    # no more than `limit` picks are ever made.
    best_rows = remaining.argmax(axis=1) if remaining.size else np.zeros(0, dtype=np.int64)
    queue = [(-float(remaining[label, row]), label, int(row)) for label, row in enumerate(best_rows)]
    heapq.heapify(queue)
    while queue and len(rows) < limit:
        negative_score, label, row = heapq.heappop(queue)
        if not -negative_score >= min_score:
            break
        rows.append(row)
        labels.append(label)
        picked.append(-negative_score)
        class_scores = remaining[label]
        class_scores[row] = -np.inf
        np.multiply(class_scores, decay(row), out=class_scores, where=class_scores > -np.inf)
        best = int(class_scores.argmax())
        heapq.heappush(queue, (-float(class_scores[best]), label, best))
    return (
        np.array(rows, dtype=np.int64),
        np.array(labels, dtype=np.int64),
        np.array(picked, dtype=np.float32),
    )


def _iou_with(boxes: NDArray[np.float64], row: int, offset: float) -> NDArray[np.float64]:
    """(N,) IoU of one box with all; 0 where the union is empty."""
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    area = sides[:, 0] * sides[:, 1]
    shared = np.minimum(boxes[:, 2:], boxes[row, 2:]) - np.maximum(boxes[:, :2], boxes[row, :2]) + offset
    np.maximum(shared, 0, out=shared)
    intersection = shared[:, 0] * shared[:, 1]
    union = area + area[row] - intersection
    overlap: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap
