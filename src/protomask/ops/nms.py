"""Non-maximum suppression: Fast NMS of YOLACT, the greedy classic, and Soft-NMS.

All functions take `boxes` (N, 4) float xyxy in any one scale (relative or px) and, unless said otherwise, `scores`
(C, N), one row per class without background. They return `(indices, labels, scores)`: (D,) int64 rows of `boxes`, (D,)
int64 classes, (D,) scores, ordered by descending score; ties go to the lower class, then to the lower row.
"""

from __future__ import annotations

import heapq
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torchvision.ops
from torch import Tensor

from protomask.errors import ConfigError
from protomask.ops.boxes import pairwise_iou

_PAIRS_AT_ONCE = 1 << 20


def fast_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float = 0.5,
    max_candidates: int = 200,
    max_detections: int = 100,
    score_threshold: float | None = None,
    empty_suppress: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS (YOLACT section 3.2): keep a box iff its IoU with every better box of its class is within the threshold.

    Suppressed boxes still suppress others, unlike in greedy NMS. Two empty boxes are a pair without a defined IoU.

    Args:
        boxes: (N, 4), see the module.
        scores: (C, N).
        iou_threshold: largest IoU that is tolerated, 0..1.
        max_candidates: the best so many of each class take part.
        max_detections: at most so many are returned, over all classes.
        score_threshold: drop detections that do not score above it; None keeps all (the published setting).
        empty_suppress: a pair without a defined IoU suppresses (the published setting); otherwise its IoU counts as 0.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    _check(boxes, scores, iou_threshold, max_detections, max_candidates)
    flat_scores = scores.flatten()
    # A box is only suppressed by better ones, so what the best M pairs (class, box) keep does not depend on the rest:
    # start small and widen until enough are kept.
    # Few boxes keep little in each class, and are compared once for all classes.
    wanted = max_detections * (10 if scores.shape[1] <= 2 * max_detections else 4)
    while True:
        candidates = _best(flat_scores, wanted, score_threshold)
        kept = candidates[_fast_keep(boxes, scores, candidates, iou_threshold, max_candidates, empty_suppress)]
        if len(kept) >= max_detections or len(candidates) < wanted or wanted >= flat_scores.numel():
            break
        wanted *= 4
    return _select(kept[:max_detections], scores)


def cross_class_fast_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float = 0.5,
    max_candidates: int = 200,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    empty_suppress: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS across classes: every box has its best class only, and boxes of different classes suppress each other.

    Parameters as `fast_nms`; `max_detections` None leaves up to `max_candidates` (the published setting).
    """
    _check(boxes, scores, iou_threshold, max_detections, max_candidates)
    if scores.numel() == 0:
        return _select(torch.zeros(0, dtype=torch.int64, device=scores.device), scores)
    best_scores, labels = scores.max(dim=0)
    candidates = _best(best_scores, max_candidates, score_threshold)
    keep = _fast_keep(boxes, best_scores[None], candidates, iou_threshold, max_candidates, empty_suppress)
    kept = candidates[keep][:max_detections]
    return kept, labels[kept], best_scores[kept]


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float = 0.5,
    max_detections: int | None = 100,
    score_threshold: float | None = None,
    legacy_offset: float = 0.0,
    inclusive: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy NMS, each class by itself.

    The defaults are the convention of `torchvision.ops.nms`: suppress where IoU > threshold. The convention of the
    official YOLACT code is `legacy_offset=1, inclusive=True` on boxes in px (relative boxes times the network's image
    size).

    Args:
        boxes: (N, 4), see the module.
        scores: (C, N).
        iou_threshold: 0..1.
        max_detections: at most so many are returned, over all classes; None returns all.
        score_threshold: only boxes that score above it take part; None: all.
        legacy_offset: added to widths and heights (of boxes and intersections), in the unit of `boxes`.
        inclusive: suppress where IoU >= threshold too.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    _check(boxes, scores, iou_threshold, max_detections)
    _check_number("legacy_offset", legacy_offset, minimum=0)
    # Moving the far corner out by the offset adds it to every width and height, intersections included.
    boxes = boxes + boxes.new_tensor([0.0, 0.0, legacy_offset, legacy_offset])
    # IoU >= t is IoU > the number before t (float32, in which the IoU is computed).
    limit = float(np.nextafter(np.float32(iou_threshold), np.float32(-1))) if inclusive else iou_threshold
    kept = [torch.zeros(0, dtype=torch.int64, device=scores.device)]
    for label, class_scores in enumerate(scores):
        if score_threshold is None:
            survivors = torchvision.ops.nms(boxes, class_scores, limit)
        else:
            rows = torch.nonzero(class_scores > score_threshold)[:, 0]
            if rows.numel() == 0:
                continue
            survivors = rows[torchvision.ops.nms(boxes[rows], class_scores[rows], limit)]
        kept.append(survivors + label * scores.shape[1])
    together = torch.cat(kept).sort().values
    order = scores.flatten()[together].sort(descending=True, stable=True).indices
    return _select(together[order[:max_detections]], scores)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    method: Literal["linear", "gaussian"] = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS of one class (Bodla et al. 2017): overlapping boxes lose score instead of being dropped.

    The best remaining box is picked again and again, and each time the others are rescored by their IoU with it:
    `linear` times (1 - IoU) where IoU > `iou_threshold`; `gaussian` times exp(-IoU^2 / sigma). Runs on the CPU in
    float64.

    Args:
        boxes: (N, 4), see the module.
        scores: (N,).
        method: the decay.
        iou_threshold: of the linear decay, 0..1.
        sigma: of the gaussian decay, > 0.
        min_score: stop when the best remaining score is below it.
        offset: added to widths and heights (1 for the legacy pixel convention), in the unit of `boxes`.

    Returns:
        (K,) int64 rows of `boxes` in the order picked and (K,) their decayed scores, descending.

    Raises:
        ConfigError: a parameter out of range or a shape that does not fit; the message names it.
    """
    if scores.ndim != 1:
        raise ConfigError(f"scores: expected shape (N,), got {tuple(scores.shape)}")
    indices, _, decayed = batched_soft_nms(
        boxes,
        scores[None],
        method=method,
        iou_threshold=iou_threshold,
        sigma=sigma,
        min_score=min_score,
        offset=offset,
        max_detections=None,
    )
    return indices, decayed


def batched_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    method: Literal["linear", "gaussian"] = "linear",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    offset: float = 0.0,
    max_detections: int | None = 100,
    score_threshold: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft-NMS, each class by itself; the returned scores are the decayed ones.

    Parameters as `soft_nms`, and `max_detections` over all classes (None: all); only boxes that score above
    `score_threshold` before any decay take part (None: all).
    """
    _check(boxes, scores, iou_threshold, max_detections)
    if method not in ("linear", "gaussian"):
        raise ConfigError(f"method: expected 'linear' or 'gaussian', got {method!r}")
    _check_number("sigma", sigma, minimum=0, exclusive=True)
    _check_number("min_score", min_score, minimum=0)
    _check_number("offset", offset, minimum=0)

    corners = boxes.detach().cpu().double().numpy()
    remaining = scores.detach().cpu().double().numpy().copy()
    if score_threshold is not None:
        remaining[~(remaining > score_threshold)] = -np.inf
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
        overlap = _iou_with(corners, row, offset)
        if method == "linear":
            decay = np.where(overlap > iou_threshold, 1 - overlap, 1)
        else:
            decay = np.exp(-(overlap**2) / sigma)
        np.multiply(class_scores, decay, out=class_scores, where=class_scores > -np.inf)
        best = int(class_scores.argmax())
        heapq.heappush(queue, (-float(class_scores[best]), label, best))
    device = scores.device
    return (
        torch.tensor(rows, dtype=torch.int64, device=device),
        torch.tensor(labels, dtype=torch.int64, device=device),
        torch.tensor(picked, dtype=torch.float64).to(device=device, dtype=scores.dtype),
    )


def _best(scores: Tensor, count: int, score_threshold: float | None) -> Tensor:
    """Positions of the `count` best of (L,) scores, best first, ties in the order of position."""
    if count < scores.numel():
        eligible = scores >= scores.topk(count, sorted=False).values.min()
    else:
        eligible = torch.ones_like(scores, dtype=torch.bool)
    if score_threshold is not None:
        eligible &= scores > score_threshold
    positions = torch.nonzero(eligible)[:, 0]
    return positions[scores[positions].sort(descending=True, stable=True).indices[:count]]


def _fast_keep(
    boxes: Tensor, scores: Tensor, candidates: Tensor, iou_threshold: float, max_candidates: int, empty_suppress: bool
) -> Tensor:
    """(M,) bool: which candidates (positions in `scores` (C, N), best first) Fast NMS keeps."""
    num_classes, num_boxes = scores.shape
    keep = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    if len(candidates) == 0:
        return keep
    labels = torch.div(candidates, num_boxes, rounding_mode="floor")
    # Class by class, best first; then the better ones of a class are the places just before a candidate.
    order = labels.sort(stable=True).indices
    sizes = torch.bincount(labels, minlength=num_classes)
    class_start = (sizes.cumsum(0) - sizes)[labels[order]]
    rank = torch.arange(len(order), device=order.device) - class_start
    ranked = rank < max_candidates
    class_start = (ranked.cumsum(0) - 1)[class_start[ranked]]
    order, rank = order[ranked], rank[ranked]
    longest = int(rank.max())
    rows = candidates[order] % num_boxes
    used = torch.zeros(num_boxes, dtype=torch.bool, device=rows.device).index_fill_(0, rows, True)
    place, rows = (used.cumsum(0) - 1)[rows], used.nonzero()[:, 0]
    if len(rows) ** 2 < 2 * len(order) * longest:
        # Boxes that are candidates of several classes: their overlaps are the same in each.
        suppressed = _suppressed(boxes[rows].float(), scores[:, rows], iou_threshold, empty_suppress)
        keep[order] = ~suppressed[place, labels[order]]
        return keep
    ordered = boxes[rows[place]].float().unbind(1)
    better = torch.arange(longest, device=order.device)
    step = max(1, _PAIRS_AT_ONCE // max(1, longest))
    for start in range(0, len(order), step):
        part = slice(start, start + step)
        # Places past the own rank are other boxes; they are computed along and masked.
        rivals = (class_start[part, None] + better).clamp(max=len(order) - 1)
        iou = _paired_iou(ordered, rivals, part)
        overlaps = _exceeds(iou, iou_threshold, empty_suppress)
        keep[order[part]] = ~(overlaps & (better < rank[part, None])).any(dim=1)
    return keep


def _suppressed(boxes: Tensor, scores: Tensor, iou_threshold: float, empty_suppress: bool) -> Tensor:
    """(N, C) bool: which of (N, 4) boxes overlap a box that is better in a class, by their (C, N) scores."""
    overlaps = _exceeds(pairwise_iou(boxes, boxes), iou_threshold, empty_suppress)
    first, second = overlaps.triu(diagonal=1).nonzero().unbind(1)
    by_box = scores.T.contiguous()
    first_wins = by_box[first] >= by_box[second]
    count = torch.zeros(by_box.shape, dtype=torch.int32, device=scores.device)
    count.index_add_(0, second, first_wins.int()).index_add_(0, first, (~first_wins).int())
    return count > 0


def _exceeds(iou: Tensor, iou_threshold: float, empty_suppress: bool) -> Tensor:
    # Both ways of asking differ for NaN, the IoU of two empty boxes.
    return ~(iou <= iou_threshold) if empty_suppress else iou > iou_threshold


def _paired_iou(coordinates: tuple[Tensor, ...], rivals: Tensor, part: slice) -> Tensor:
    """IoU of each box of `part` with its rivals: (M, L) from four (K,) coordinates and (M, L) indices."""
    left, top, right, bottom = coordinates
    area = (right - left) * (bottom - top)
    width = (torch.minimum(right[rivals], right[part, None]) - torch.maximum(left[rivals], left[part, None])).clamp(
        min=0
    )
    height = (torch.minimum(bottom[rivals], bottom[part, None]) - torch.maximum(top[rivals], top[part, None])).clamp(
        min=0
    )
    intersection = width * height
    return intersection / (area[rivals] + area[part, None] - intersection)


def _iou_with(boxes: npt.NDArray[np.float64], row: int, offset: float) -> npt.NDArray[np.float64]:
    """(N,) IoU of one box with all; 0 where the union is empty."""
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    area = sides[:, 0] * sides[:, 1]
    shared = np.minimum(boxes[:, 2:], boxes[row, 2:]) - np.maximum(boxes[:, :2], boxes[row, :2]) + offset
    np.maximum(shared, 0, out=shared)
    intersection = shared[:, 0] * shared[:, 1]
    union = area + area[row] - intersection
    overlap: npt.NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def _select(positions: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, classes and scores of positions in the flattened (C, N) scores."""
    num_boxes = max(1, scores.shape[1])
    return (
        positions % num_boxes,
        torch.div(positions, num_boxes, rounding_mode="floor"),
        scores.flatten()[positions],
    )


def _check(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_detections: int | None,
    max_candidates: int | None = None,
) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ConfigError(f"boxes: expected shape (N, 4), got {tuple(boxes.shape)}")
    if scores.ndim != 2 or scores.shape[1] != boxes.shape[0]:
        raise ConfigError(f"scores: expected shape (C, {boxes.shape[0]}), got {tuple(scores.shape)}")
    if not 0 <= iou_threshold <= 1:
        raise ConfigError(f"iou_threshold: expected a number in 0..1, got {iou_threshold!r}")
    for name, value in (("max_detections", max_detections), ("max_candidates", max_candidates)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value!r}")


def _check_number(name: str, value: float, *, minimum: float, exclusive: bool = False) -> None:
    if not math.isfinite(value) or value < minimum or (exclusive and value == minimum):
        bound = "more than" if exclusive else "at least"
        raise ConfigError(f"{name}: expected a finite number of {bound} {minimum}, got {value!r}")
