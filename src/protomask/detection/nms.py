"""Non-maximum suppression by boxes: Fast NMS of YOLACT and the greedy classic.

All functions take ``boxes`` (N, 4) float32 xyxy in any one scale (relative or px) and, unless stated otherwise,
``scores`` (C, N), one row per class without background. They return ``(indices, labels, scores)``: (D,) int64 rows of
``boxes``, (D,) int64 classes, (D,) float32 scores, ordered by descending score; ties go to the lower class, then to the
lower row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError

Kept = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
Floats = NDArray[np.float32]
_SHARED_BOXES = 512
_BLOCK = 128


def fast_nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float = 0.5,
    max_candidates: int = 200,
    max_detections: int = 100,
    score_threshold: float | None = None,
    empty_suppress: bool = True,
) -> Kept:
    """Fast NMS (YOLACT section 3.2): keep a box iff its IoU with every better box of its class is within the threshold.

    Suppressed boxes still suppress others, unlike in greedy NMS. Two empty boxes are a pair without a defined IoU.

    Args:
        boxes: (N, 4), see the module.
        scores: (C, N).
        iou_threshold: largest IoU that is tolerated, 0..1.
        max_candidates: number of boxes of each class that take part, the best.
        max_detections: maximum number of detections over all classes.
        score_threshold: drop detections that do not score above it; None keeps all (the published setting).
        empty_suppress: a pair without a defined IoU suppresses (the published setting); otherwise its IoU counts as 0.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    check_arrays(boxes, scores, iou_threshold, max_detections, max_candidates)
    limit = _Limit(np.float32(iou_threshold), empty_suppress)

    def keep(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return _keep(boxes, labels, rows, limit, max_candidates=max_candidates)

    return _select(_best_kept(scores, keep, max_detections, score_threshold), scores)


def cross_class_fast_nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float = 0.5,
    max_candidates: int = 200,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    empty_suppress: bool = True,
) -> Kept:
    """Fast NMS across classes: every box has only its best class, and boxes of different classes suppress each other.

    Parameters as `fast_nms`; ``max_detections`` None leaves up to ``max_candidates`` (the published setting).
    """
    check_arrays(boxes, scores, iou_threshold, max_detections, max_candidates)
    if scores.size == 0:
        return _select(np.zeros(0, dtype=np.int64), scores)
    best_scores = scores.max(axis=0)
    candidates = _best(best_scores, max_candidates, score_threshold)
    keep = _keep(boxes, np.zeros_like(candidates), candidates, _Limit(np.float32(iou_threshold), empty_suppress))
    kept = candidates[keep][:max_detections]
    return kept, scores[:, kept].argmax(axis=0), best_scores[kept]


def batched_nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float = 0.5,
    max_detections: int | None = 100,
    score_threshold: float | None = None,
    legacy_offset: float = 0.0,
    inclusive: bool = False,
) -> Kept:
    """Greedy NMS, each class by itself.

    The defaults are the convention of `torchvision.ops.nms`: suppress where IoU > threshold. The convention of the
    official YOLACT code is ``legacy_offset=1, inclusive=True`` on boxes in px (relative boxes times the network's image
    size).

    Args:
        boxes: (N, 4), see the module.
        scores: (C, N).
        iou_threshold: 0..1.
        max_detections: maximum number of detections over all classes; None returns all.
        score_threshold: only boxes that score above it take part; None: all.
        legacy_offset: added to widths and heights (of boxes and intersections), in the unit of ``boxes``.
        inclusive: suppress where IoU >= threshold too.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    check_arrays(boxes, scores, iou_threshold, max_detections)
    check_number("legacy_offset", legacy_offset, minimum=0)
    # Moving the far corner out by the offset adds it to every width and height, intersections included.
    boxes = boxes.astype(np.float32) + np.array([0.0, 0.0, legacy_offset, legacy_offset], dtype=np.float32)
    limit = np.float32(iou_threshold)
    # IoUs are float32, the threshold is not: above it are those above the float32 below it.
    if inclusive or float(limit) > iou_threshold:
        limit = np.nextafter(limit, np.float32(-1))

    def keep(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return _keep(boxes, labels, rows, _Limit(limit), greedy=True, most=max_detections)

    return _select(_best_kept(scores, keep, max_detections, score_threshold), scores)


def pairwise_iou(first: Floats, second: Floats) -> Floats:
    """IoU of every box (A, 4) with every other (B, 4): (A, B) float32, NaN where both are empty."""
    return _iou(_corners(first)[:, :, None], _corners(second))


def _corners(boxes: Floats) -> Floats:
    """(N, 4) as (4, N) in memory."""
    return np.ascontiguousarray(boxes.T)


def _iou(first: Floats, second: Floats) -> Floats:
    """IoU of (4, ...) boxes, whose four arrays have shapes that broadcast."""
    left, top, right, bottom = first
    other_left, other_top, other_right, other_bottom = second
    # In place: large arrays of pairs are made as few times as possible.
    width = np.minimum(right, other_right)
    width -= np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom)
    height -= np.maximum(top, other_top)
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    union = np.add((right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top), out=height)
    union -= width
    with np.errstate(divide="ignore", invalid="ignore"):
        iou: Floats = np.divide(width, union, out=width)
    return iou


class _Limit(NamedTuple):
    """Boxes overlap too much when their IoU is above ``iou``, and two empty ones, which have none, if ``undefined``."""

    iou: np.float32
    undefined: bool = False

    def exceeded(self, first: Floats, second: Floats) -> NDArray[np.bool_]:
        """Whether (4, ...) boxes, whose four arrays have shapes that broadcast, overlap too much."""
        iou = _iou(first, second)
        # Both ways of asking differ for NaN.
        exceeded: NDArray[np.bool_] = ~(iou <= self.iou) if self.undefined else iou > self.iou
        return exceeded


def _best_kept(
    scores: Floats,
    keep: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
    max_detections: int | None,
    score_threshold: float | None,
) -> NDArray[np.int64]:
    """Positions in the flattened (C, N) scores of what NMS keeps, best first.

    ``keep`` says which pairs (labels, rows), best first, remain.
    """
    flat_scores = scores.ravel()
    # A box is only suppressed by better ones, so what the best M pairs (class, box) keep does not depend on the rest:
    # start small and widen until enough are kept.
    wanted = scores.size if max_detections is None else 4 * max_detections
    while True:
        candidates = _best(flat_scores, wanted, score_threshold)
        kept = candidates[keep(*np.divmod(candidates, max(1, scores.shape[1])))]
        if max_detections is not None and len(kept) >= max_detections:
            return kept[:max_detections]
        if len(candidates) < wanted or wanted >= scores.size:
            return kept
        wanted *= 4


def _best(scores: Floats, count: int, score_threshold: float | None) -> NDArray[np.int64]:
    """Positions of the ``count`` best of (L,) scores, best first, ties in the order of position."""
    if count >= scores.size:
        eligible = np.ones(scores.shape, dtype=np.bool_)
    else:
        groups = max(1, scores.size // (4 * count))
        # As many scores as there are groups of them, each the best of its group, are found much faster than the best
        # of all, and the last of the best of those is a lower bound.
        heads = scores[: scores.size // groups * groups].reshape(groups, -1).max(axis=0)
        eligible = scores >= np.partition(heads, len(heads) - count)[len(heads) - count]
    if score_threshold is not None:
        eligible &= scores > np.float32(score_threshold)
    positions = np.flatnonzero(eligible)
    return positions[np.argsort(-scores[positions], kind="stable")[:count]]


def _keep(
    boxes: Floats,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    limit: _Limit,
    *,
    greedy: bool = False,
    max_candidates: int | None = None,
    most: int | None = None,
) -> NDArray[np.bool_]:
    """(M,) bool: which candidates, best first, remain when each class is suppressed by itself.

    Args:
        boxes: (N, 4).
        labels: (M,) class of each candidate.
        rows: (M,) box of each candidate.
        limit: of the overlap.
        greedy: only what remains suppresses; otherwise everything better does.
        max_candidates: number of candidates of each class that take part, the best.
        most: number that is wanted of each class, where no more matter.

    """
    keep = np.zeros(len(labels), dtype=np.bool_)
    order = np.argsort(labels, kind="stable")
    begins = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(begins, append=len(order))
    classes = [order[begin : begin + size] for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
    classes = [members[:max_candidates] for members in classes]
    used = np.zeros(len(boxes), dtype=np.bool_)
    used[rows] = True
    if np.count_nonzero(used) <= _SHARED_BOXES:
        # A box that is a candidate of several classes overlaps the others alike in each.
        corners = _corners(boxes[used])
        places = (np.cumsum(used) - 1)[rows]
        overlaps = bits_of(limit.exceeded(corners[:, :, None], corners))
        for members in classes:
            keep[members] = kept_places(places[members].tolist(), overlaps, greedy=greedy)
        return keep
    for members in classes:
        corners = _corners(boxes[rows[members]])
        keep[members] = _greedy_blocks(corners, limit, most) if greedy else _fast_blocks(corners, limit)
    return keep


def bits_of(table: NDArray[np.bool_]) -> list[int]:
    """Each row of (N, L) truth values as a number of L bits, the first of them the lowest."""
    packed = np.packbits(table, axis=1, bitorder="little")
    return [int.from_bytes(row, "little") for row in map(bytes, packed)]


def kept_places(places: Iterable[int], overlaps: Sequence[int], *, greedy: bool) -> list[bool]:
    """Which places, best first, remain; ``overlaps`` has a bit for each place that overlaps too much."""
    kept = []
    if greedy:
        suppressed = 0
        for place in places:
            kept.append(not suppressed >> place & 1)
            if kept[-1]:
                suppressed |= overlaps[place]
    else:
        better = 0
        for place in places:
            kept.append(not better & overlaps[place])
            better |= 1 << place
    return kept


def _fast_blocks(corners: Floats, limit: _Limit) -> NDArray[np.bool_]:
    """(N,) bool: which of (4, N) boxes, best first, overlap no better one."""
    suppressed = np.zeros(corners.shape[1], dtype=np.bool_)
    for start in range(0, len(suppressed), _BLOCK):
        better = corners[:, start : start + _BLOCK, None]
        suppressed[start:] |= np.triu(limit.exceeded(better, corners[:, start:]), 1).any(axis=0)
    return ~suppressed


def _greedy_blocks(corners: Floats, limit: _Limit, most: int | None) -> NDArray[np.bool_]:
    """(N,) bool: which of (4, N) boxes, best first, overlap no better one that remains; ``most`` of them are enough."""
    keep = np.zeros(corners.shape[1], dtype=np.bool_)
    left = np.arange(len(keep))
    wanted = len(keep) if most is None else most
    size = _BLOCK // 4  # the first few often suppress nearly all
    while len(left) and wanted > 0:
        block, left = left[:size], left[size:]
        own = corners[:, block]
        remain = kept_places(range(len(block)), bits_of(limit.exceeded(own[:, :, None], own)), greedy=True)
        keep[block] = remain
        better = own[:, remain]
        left = left[~limit.exceeded(better[:, :, None], corners[:, left]).any(axis=0)]
        wanted -= better.shape[1]
        size = _BLOCK
    return keep


def _select(positions: NDArray[np.int64], scores: Floats) -> Kept:
    """Rows, classes and scores of positions in the flattened (C, N) scores."""
    labels, rows = np.divmod(positions, max(1, scores.shape[1]))
    return rows, labels, scores.ravel()[positions]


def check_arrays(
    boxes: Floats,
    scores: Floats,
    iou_threshold: float,
    max_detections: int | None,
    max_candidates: int | None = None,
) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ConfigError(f"boxes: expected shape (N, 4), got {boxes.shape}")
    if scores.ndim != 2 or scores.shape[1] != boxes.shape[0]:
        raise ConfigError(f"scores: expected shape (C, {boxes.shape[0]}), got {scores.shape}")
    if not 0 <= iou_threshold <= 1:
        raise ConfigError(f"iou_threshold: expected a number in 0..1, got {iou_threshold!r}")
    for name, value in (("max_detections", max_detections), ("max_candidates", max_candidates)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value!r}")


def check_number(name: str, value: float, *, minimum: float, exclusive: bool = False) -> None:
    if not math.isfinite(value) or value < minimum or (exclusive and value == minimum):
        bound = "more than" if exclusive else "at least"
        raise ConfigError(f"{name}: expected a finite number of {bound} {minimum}, got {value!r}")
