"""Non-maximum suppression by masks, on the prototype grid: what two detections share is counted in cells.

Boxes of crossing or enclosed objects overlap where the objects do not, and two boxes can differ while their masks are
the same. All kinds of NMS that compare boxes can compare masks. Only the best pairs of an anchor and a class take part,
`PAIRS_PER_DETECTION` for each detection that may be returned, so that the time of crowded images is bounded.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import Floats, Kept, bits_of, kept_places
from protomask.detection.options import NmsMode, Overlap
from protomask.detection.soft_nms import decay_of, pick_in_turn
from protomask.masks.grids import GridWindow

PAIRS_PER_DETECTION = 10
"""Pairs of an anchor and a class that take part, the best, for each detection that may be returned."""
_PAIRS_AT_ONCE = 1 << 10
_POPULATION = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], Floats]
"""Rows, labels and scores of some pairs of a box and a class, best first."""


def best_pairs(
    scores: Floats, max_detections: int, *, score_threshold: float | None = None, across_classes: bool = False
) -> Pairs:
    """The pairs that take part in NMS by masks.

    Args:
        scores: (C, N) scores, one row per class without background.
        max_detections: number of detections that may be returned.
        score_threshold: only pairs that score above this; None for all.
        across_classes: every box has only its best class.

    """
    if scores.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    if across_classes:
        labels, rows = scores.argmax(axis=0), np.arange(scores.shape[1])
    else:
        labels, rows = np.divmod(np.arange(scores.size), scores.shape[1])
    values = scores[labels, rows]
    if score_threshold is not None:
        above = np.flatnonzero(values > np.float32(score_threshold))
        labels, rows, values = labels[above], rows[above], values[above]
    best = np.argsort(-values, kind="stable")[: PAIRS_PER_DETECTION * max_detections]
    return rows[best], labels[best].astype(np.int64), values[best]


def nms_by_overlaps(
    pairs: Pairs,
    overlaps: Floats,
    mode: NmsMode,
    *,
    iou_threshold: float,
    max_detections: int,
    max_candidates: int | None = None,
) -> Kept:
    """NMS of pairs whose overlaps are known; what overlaps by more than the threshold is suppressed.

    Args:
        pairs: best first; their rows are those of ``overlaps``.
        overlaps: (N, N), 0..1.
        mode: kind of NMS.
        iou_threshold: largest overlap that is tolerated.
        max_detections: maximum number of detections.
        max_candidates: number of pairs of each class that take part in fast NMS; None for all.

    """
    rows, labels, scores = pairs
    if mode in ("soft_linear", "soft_gaussian"):
        method: Literal["linear", "gaussian"] = "linear" if mode == "soft_linear" else "gaussian"
        remaining = np.full((int(labels.max(initial=-1)) + 1, len(overlaps)), -np.inf)
        remaining[labels, rows] = scores
        table = overlaps.astype(np.float64)
        return pick_in_turn(
            remaining,
            lambda row: decay_of(table[row], method, iou_threshold=iou_threshold),
            max_detections=max_detections,
        )
    if mode == "cross_class_fast":
        labels = np.zeros_like(labels)
    exceeding = bits_of(overlaps > np.float32(iou_threshold))
    keep = np.zeros(len(rows), dtype=np.bool_)
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)[: None if mode == "batched" else max_candidates]
        keep[members] = kept_places(rows[members].tolist(), exceeding, greedy=mode == "batched")
    chosen = np.flatnonzero(keep)[:max_detections]
    return rows[chosen], pairs[1][chosen], scores[chosen]


def mask_overlaps(windows: list[GridWindow], grid_size: tuple[int, int], overlap: Overlap) -> Floats:
    """Overlap of every mask with every other, (N, N) float32; that of two masks without a common cell is 0.

    Args:
        windows: N masks; a cell belongs to one where its probability is above a half.
        grid_size: (h, w) of the grid.
        overlap: "mask_iou" divides what is common by the union, "mask_smaller" by the smaller of both.

    """
    height, width = grid_size
    packed = np.zeros((len(windows), -(-height * width // 64)), dtype=np.uint64)
    bytes_of = packed.view(np.uint8)
    limits = np.zeros((4, len(windows)), dtype=np.int16)
    for place, (top, left, probs) in enumerate(windows):
        cells = np.zeros((height, width), dtype=np.bool_)
        cells[top : top + probs.shape[0], left : left + probs.shape[1]] = probs > np.float32(0.5)
        bits = np.packbits(cells)
        bytes_of[place, : len(bits)] = bits
        limits[:, place] = top, left, top + probs.shape[0], left + probs.shape[1]
    areas = _population(packed)
    meet = np.triu(np.ones((len(windows), len(windows)), dtype=np.bool_), 1)
    for low, high in (limits[::2], limits[1::2]):
        meet &= np.minimum(high[:, None], high) > np.maximum(low[:, None], low)
    first, second = np.nonzero(meet)
    table = np.zeros((len(windows), len(windows)), dtype=np.float32)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        one, other = first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE]
        common = _population(packed[one] & packed[other])
        smaller = np.minimum(areas[one], areas[other])
        whole = smaller if overlap == "mask_smaller" else areas[one] + areas[other] - common
        table[one, other] = common / np.maximum(whole, np.float32(1))
    table += table.T
    return table


def _population(packed: NDArray[np.uint64]) -> Floats:
    """Number of set bits in each row of (N, W), as float32, which holds such numbers exactly."""
    counts = np.bitwise_count(packed) if hasattr(np, "bitwise_count") else _POPULATION[packed.view(np.uint8)]
    total: Floats = counts.sum(axis=1, dtype=np.uint32).astype(np.float32)
    return total
