"""Region proposal network: anchors for a batch, and which of them become proposals (Faster R-CNN, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from protomask.models.rcnn.config import RCNNConfig
from protomask.ops.anchors import cell_anchors, shifted_anchors
from protomask.ops.boxes import clip_to_image, decode_deltas, is_at_least

LEVEL_STRIDES = (4, 8, 16, 32, 64)
BatchedNms = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Boxes, scores, groups and the largest IoU that is tolerated to the survivors; as `torchvision.ops.batched_nms`."""


def anchors_of_levels(
    grid_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int], config: RCNNConfig
) -> list[Tensor]:
    """Anchors of every pyramid level.

    Args:
        grid_sizes: (rows, columns) of each level, finest first.
        padded_size: (H, W) of the network's input.
        config: sizes, ratios and conventions.

    Returns:
        For each level (rows * columns * ratios, 4) float32 xyxy, network pixels; order: row, column, ratio.

    """
    kind = config.conventions.anchors
    levels = []
    for grid_size, size, nominal in zip(grid_sizes, config.anchor_sizes, LEVEL_STRIDES, strict=True):
        strides = (nominal, nominal)
        if kind == "rounded":
            strides = (padded_size[0] // grid_size[0], padded_size[1] // grid_size[1])
        cell = cell_anchors(size, config.anchor_aspect_ratios, stride=nominal, kind=kind)
        levels.append(shifted_anchors(cell, grid_size, strides))
    return levels


def select_proposals(
    objectness_logits: Sequence[Tensor],
    box_deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    image_size: tuple[int, int],
    config: RCNNConfig,
    *,
    training: bool,
    nms: BatchedNms = batched_nms,
) -> tuple[Tensor, Tensor]:
    """The proposals of one image: the best anchors of each level, corrected, after NMS by level.

    Args:
        objectness_logits: for each level (N_level,).
        box_deltas: for each level (N_level, 4).
        anchors: for each level (N_level, 4) xyxy, network pixels.
        image_size: (h, w) of the image within the padded input.
        config: limits and conventions.
        training: take the limits for training.
        nms: what suppresses; an exported graph brings its own.

    Returns:
        boxes: (P, 4) xyxy, network pixels, inside the image, best first.
        scores: (P,) objectness in 0..1.

    """
    conventions = config.conventions
    candidates = config.training_rpn_candidates if training else config.rpn_candidates
    boxes, scores, levels = [], [], []
    for level, (logits, deltas, references) in enumerate(zip(objectness_logits, box_deltas, anchors, strict=True)):
        best, index = logits.topk(torch.sym_min(candidates, logits.shape[0]))
        decoded = decode_deltas(
            deltas[index],
            references[index],
            extent_offset=conventions.extent_offset,
            limit_below=conventions.limit_delta_below,
        )
        boxes.append(clip_to_image(decoded, image_size, conventions.extent_offset))
        scores.append(best.sigmoid())
        levels.append(torch.full_like(index, level))
    all_boxes, all_scores, all_levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    large = is_at_least(all_boxes, conventions.min_proposal_side, conventions.extent_offset)
    # A network that diverged can ask for anything.
    chosen = (large & all_boxes.isfinite().all(dim=1) & all_scores.isfinite()).nonzero()[:, 0]
    all_boxes, all_scores, all_levels = all_boxes[chosen], all_scores[chosen], all_levels[chosen]
    kept = greedy_nms(all_boxes, all_scores, all_levels, config.rpn_iou_threshold, config, nms)
    kept = kept[: config.training_max_proposals if training else config.max_proposals]
    return all_boxes[kept], all_scores[kept]


def greedy_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    config: RCNNConfig,
    nms: BatchedNms = batched_nms,
) -> Tensor:
    """Indices that survive NMS within their group, best first; boxes (N, 4), scores and groups (N,)."""
    conventions = config.conventions
    if conventions.extent_offset:
        # Moving the far corner out by the offset adds it to every width and height, intersections included.
        boxes = boxes + boxes.new_tensor([0.0, 0.0, conventions.extent_offset, conventions.extent_offset])
    limit = iou_threshold
    if conventions.nms_inclusive:
        # IoU >= t is IoU > the number before t, in the float32 that IoU is computed in.
        limit = float(np.nextafter(np.float32(iou_threshold), np.float32(-1)))
    return nms(boxes, scores, groups, limit)
