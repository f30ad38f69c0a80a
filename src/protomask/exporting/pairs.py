"""NMS inside the graph of a prototype model where it knows the overlap of every two pairs: by masks, and Soft-NMS.

The same results as `protomask.detection.mask_nms` and `protomask.detection.soft_nms`, from operations that every
runtime has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protomask.detection.options import Overlap
from protomask.detection.soft_nms import MIN_SCORE, SIGMA
from protomask.models.prototype_config import PrototypeModelConfig


def mask_overlaps(mask_probs: Tensor, overlap: Overlap) -> Tensor:
    """Overlap of every mask with every other, (M, M), as `protomask.detection.mask_nms.mask_overlaps`.

    Args:
        mask_probs: (M, h, w), zero outside of the boxes.
        overlap: "mask_iou" or "mask_smaller".

    """
    cells = (mask_probs > 0.5).float().flatten(start_dim=1)
    common, areas = cells @ cells.T, cells.sum(dim=1)
    if overlap == "mask_smaller":
        whole = torch.minimum(areas[:, None], areas[None])
    else:
        whole = areas[:, None] + areas[None] - common
    return common / whole.clamp(min=1)


def keep_best(overlaps: Tensor, labels: Tensor, config: PrototypeModelConfig) -> Tensor:
    """(M,) bool: which pairs, best first, fast NMS keeps; labels (M,) decide which of them meet."""
    ranks = torch.arange(len(labels))
    rivals = (ranks < ranks[:, None]) & (labels[:, None] == labels)
    # Every better pair of the class takes one of its places, and one that overlaps takes them all.
    taken = torch.where(overlaps > config.iou_threshold, float(config.max_candidates), 1.0) * rivals
    return taken.sum(dim=1) < config.max_candidates


def pick_in_turn(
    scores: Tensor, labels: Tensor, overlaps: Tensor, config: PrototypeModelConfig
) -> tuple[Tensor, Tensor]:
    """Greedy NMS and Soft-NMS: the best pair is picked, and what overlaps it loses score, all of it or some.

    Args:
        scores: (M,) of the pairs; 0 for those that take no part.
        labels: (M,).
        overlaps: (M, M).
        config: kind of NMS, threshold, and number of picks.

    Returns:
        Scores and pairs of the picks, (D,) each, best first; the scores are 0 where nothing was left.

    """
    places = torch.arange(len(scores))
    values, picks = [], []
    for _ in range(min(config.max_detections, len(scores))):
        value, pick = scores.max(dim=0)
        row = overlaps[pick]
        if config.nms == "soft_gaussian":
            left = (-(row**2) / SIGMA).exp()
        else:
            left = torch.where(row > config.iou_threshold, 1 - row if config.nms == "soft_linear" else 0.0, 1.0)
        scores = scores * torch.where(labels == labels[pick], left, 1.0) * (places != pick)
        values.append(value if config.nms == "batched" else value * (value >= MIN_SCORE))
        picks.append(pick)
    return torch.stack(values), torch.stack(picks)
