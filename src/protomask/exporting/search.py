"""NMS inside the graph of a prototype model: which candidates it looks at, and which of them it keeps.

The same results as `protomask.detection.nms`, from operations that every runtime has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protomask.detection import prototypes
from protomask.detection.mask_nms import PAIRS_PER_DETECTION
from protomask.exporting.greedy_nms import nms_by_group
from protomask.models.prototype_config import PrototypeModelConfig, rule_of

MOST_PAIRS = 3840
"""Most that it looks at unless more are asked for: TensorRT has no deeper top-k, and time grows with the square."""
_SPARE = 1.25
"""Factor of what some images need, for others."""


def choose_search_depth(config: PrototypeModelConfig, parts: Iterable[Mapping[str, NDArray[Any]]]) -> int | None:
    """Number of (anchor, class) pairs that NMS of the graph should look at; None for all, where that costs no more.

    Args:
        config: of the graph.
        parts: of some images, as `needed_depth` takes them; asked for only where the depth depends on them.

    """
    if config.overlap != "box_iou":
        return PAIRS_PER_DETECTION * config.max_detections  # as many as outside of a graph
    if config.nms == "cross_class_fast":
        return None
    least = PAIRS_PER_DETECTION * config.max_detections
    most = max(least, MOST_PAIRS)
    # Looking at all, each class by itself, compares as many pairs of boxes as a search of this depth.
    whole = math.ceil(config.max_candidates * math.sqrt(config.num_classes)) if config.nms == "fast" else most + 1
    needed = least
    for one in parts if whole > least else ():
        needed = max(needed, math.ceil(_SPARE * needed_depth(config, one)))
        if needed >= min(whole, most):
            break
    return None if whole <= min(needed, most) else min(needed, most)


def needed_depth(config: PrototypeModelConfig, parts: Mapping[str, NDArray[Any]]) -> int:
    """Number of (anchor, class) pairs that NMS must look at in one image to find what the model finds.

    Args:
        config: of the graph.
        parts: (1, A, C + 1) class_logits and (1, A, 4) boxes of the image, as `CandidatesGraph` gives them.

    """
    class_logits, boxes = parts["class_logits"][0], parts["boxes"][0]
    kept = prototypes.detect(class_logits, boxes, rule_of(config))
    scores = torch.from_numpy(class_logits).softmax(dim=-1).numpy()[:, 1:]
    pairs = scores[scores.max(axis=1) > config.candidate_threshold]
    if config.nms not in ("fast", "cross_class_fast"):
        pairs = pairs[pairs > config.candidate_threshold]
    full = len(kept.class_scores) == config.max_detections
    return int((pairs >= kept.class_scores[-1] - 1e-6).sum()) if full else pairs.size


def best_anchors(scores: Tensor, config: PrototypeModelConfig, count: int | None) -> Tensor | None:
    """Anchors of the best ``count`` of (A,) scores, best first, fewer where each level has a limit; None for all."""
    if config.candidates_per_level is None:
        return None if count is None else scores.topk(min(count, len(scores)))[1]
    levels = []
    end = 0
    for size in config.anchors_per_level:
        start, end = end, end + size
        best, rows = scores[start:end].topk(min(config.candidates_per_level, size))
        levels.append((best, rows + start))
    best, rows = (torch.cat(parts) for parts in zip(*levels, strict=True))
    return rows if count is None else rows[best.topk(min(count, len(best)))[1]]


def search_classes(
    boxes: Tensor, pair_scores: Tensor, config: PrototypeModelConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fast NMS of (K, 4) boxes with (K, C) scores, each class by itself, as `protomask.detection.nms.fast_nms`.

    Returns scores, places among the boxes, labels, and whether they are kept, of the best pairs of each class.
    """
    count = min(config.max_candidates, len(boxes))
    scores, places = pair_scores.T.topk(count)
    kept = overlap_no_better(boxes[places], config)
    labels = torch.arange(config.num_classes)[:, None].expand(-1, count)
    return scores.flatten(), places.flatten(), labels.flatten(), kept.flatten()


def search_pairs(
    boxes: Tensor, pair_scores: Tensor, config: PrototypeModelConfig, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """NMS among the best ``count`` pairs of all classes; returns as `search_classes`."""
    scores, pairs = pair_scores.flatten().topk(min(count, pair_scores.numel()))
    places, labels = pairs // config.num_classes, pairs % config.num_classes
    if config.nms == "batched":
        return scores, places, labels, _greedy_keep(boxes[places], labels, scores, config)
    overlaps = _overlaps(boxes[places], config)
    rivals = _better(len(scores)) & (labels[:, None] == labels)
    # Every better box of the class takes one of its places, and one that overlaps takes them all.
    taken = torch.where(overlaps, float(config.max_candidates), 1.0) * rivals
    return scores, places, labels, taken.sum(dim=1) < config.max_candidates


def overlap_no_better(boxes: Tensor, config: PrototypeModelConfig) -> Tensor:
    """(..., M) bool: which of (..., M, 4) boxes, best first, overlap no better one."""
    return ~(_overlaps(boxes, config) & _better(boxes.shape[-2])).any(dim=-1)


def _overlaps(boxes: Tensor, config: PrototypeModelConfig) -> Tensor:
    """(..., M, M) bool: which of (..., M, 4) boxes overlap too much."""
    iou = box_overlaps(boxes)
    # Both ways of asking differ for NaN, the IoU of two empty boxes.
    return ~(iou <= config.iou_threshold) if config.empty_boxes_suppress else iou > config.iou_threshold


def box_overlaps(boxes: Tensor) -> Tensor:
    """(..., M, M) IoU of (..., M, 4) boxes, NaN of two empty ones."""
    left, top, right, bottom = boxes.unbind(dim=-1)
    width = (_pairwise(torch.minimum, right) - _pairwise(torch.maximum, left)).relu()
    height = (_pairwise(torch.minimum, bottom) - _pairwise(torch.maximum, top)).relu()
    intersection = width * height
    return intersection / (_pairwise(torch.add, (right - left) * (bottom - top)) - intersection)


def _pairwise(function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """(..., M) to (..., M, M)."""
    return function(values[..., :, None], values[..., None, :])


def _better(count: int) -> Tensor:
    """(M, M) bool: which of M ranks (columns) come before which."""
    return torch.arange(count) < torch.arange(count)[:, None]


def _greedy_keep(boxes: Tensor, labels: Tensor, scores: Tensor, config: PrototypeModelConfig) -> Tensor:
    """(M,) 0 or 1: which boxes, best first, greedy NMS keeps; the same as `protomask.detection.nms.batched_nms`."""
    # The official convention: pixels, a box from 3 to 5 is three wide, and an IoU of the threshold suppresses.
    pixel_boxes = boxes * config.image_size + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    limit = float(np.nextafter(np.float32(config.iou_threshold), np.float32(-1)))
    kept = nms_by_group(pixel_boxes, scores, labels, limit, span=pixel_boxes.max() - pixel_boxes.min() + 1)
    return torch.zeros_like(scores).scatter(0, kept, 1.0)
