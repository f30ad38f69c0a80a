"""Which candidates competed with an instance, and what became of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protomask.detection.nms import pairwise_iou
from protomask.detection.options import Limits
from protomask.explaining.results import Competitor, Outcome
from protomask.models.inside import Candidates, Floats, Inside


def competition(
    inside: Inside,
    numbers: NDArray[np.int64],
    limits: Limits,
    *,
    iou_threshold: float,
    score_threshold: float,
    image_size: tuple[int, int],
) -> list[list[Competitor]]:
    """Say of each kept row who competed with it.

    A candidate belongs to the kept row of its class (of any class where NMS works across classes) that it overlaps
    most. It was suppressed by that row where their IoU is above the threshold, or else by a better candidate that is
    not kept itself, as fast NMS allows.

    Args:
        inside: of one image.
        numbers: (N,) number of each kept row in the result; -1 for rows that are not in it.
        limits: of the prediction; only the kind of NMS is asked for.
        iou_threshold: of NMS.
        score_threshold: candidates that do not score above it took no part.
        image_size: (H, W) of the image, pixels.

    Returns:
        For each kept row its competitors: itself first, then by falling score.

    """
    found: list[list[Competitor]] = [[] for _ in inside.kept]
    if not len(inside.kept):
        return found
    candidates, kept = inside.candidates, inside.kept
    iou = np.nan_to_num(pairwise_iou(candidates.boxes, candidates.boxes[kept]))
    if limits.nms != "cross_class_fast":
        iou[candidates.labels[:, None] != candidates.labels[kept]] = 0
    rank = _ranks(candidates.scores)
    nearest = iou.argmax(axis=1)
    is_kept = np.zeros(len(rank), dtype=np.bool_)
    is_kept[kept] = True
    nearest[kept] = np.arange(len(kept))
    scale = np.array([image_size[1], image_size[0]] * 2, dtype=np.float32)
    for row in np.argsort(rank).tolist():
        place = int(nearest[row])
        overlap = 1.0 if is_kept[row] else float(iou[row, place])
        if overlap <= 0:
            continue
        outcome: Outcome
        by: int | None = None
        if is_kept[row]:
            outcome = "kept"
        elif candidates.scores[row] <= score_threshold:
            outcome = "below threshold"
        else:
            suppressors = np.flatnonzero((iou[row] > iou_threshold) & (rank[kept] < rank[row]))
            outcome = "suppressed"
            if len(suppressors):
                by = int(numbers[suppressors[iou[row, suppressors].argmax()]])
            elif not _is_suppressed(candidates, row, rank, iou_threshold, limits):
                outcome = "beyond limit"
        found[place].append(_competitor(candidates, row, overlap, outcome, by, scale))
    return [sorted(rivals, key=lambda one: one.outcome != "kept") for rivals in found]


def _ranks(scores: Floats) -> NDArray[np.int64]:
    """(K,) place of each candidate, the best first, ties in their order."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return ranks


def _is_suppressed(
    candidates: Candidates, row: int, rank: NDArray[np.int64], iou_threshold: float, limits: Limits
) -> bool:
    """Whether a better candidate overlaps too much."""
    rivals = rank < rank[row]
    if limits.nms != "cross_class_fast":
        rivals &= candidates.labels == candidates.labels[row]
    overlaps = pairwise_iou(candidates.boxes[row : row + 1], candidates.boxes[rivals])
    return bool((overlaps > iou_threshold).any())


def _competitor(
    candidates: Candidates, row: int, iou: float, outcome: Outcome, by: int | None, scale: Floats
) -> Competitor:
    return Competitor(
        number=int(candidates.numbers[row]),
        level=int(candidates.levels[row]),
        label=int(candidates.labels[row]),
        score=float(candidates.scores[row]),
        box=candidates.boxes[row] * scale,
        origin=candidates.origins[row] * scale,
        iou=iou,
        outcome=outcome,
        by=None if by is None or by < 0 else by,
    )
