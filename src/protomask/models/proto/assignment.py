"""Which points learn which objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from protomask.models.proto.config import POINT_SIDE, ProtoConfig
from protomask.models.proto.truth import BatchTruth
from protomask.ops.boxes import pairwise_iou
from protomask.ops.matching import BACKGROUND, NEUTRAL, Matcher
from protomask.ops.targets import relative_boxes
from protomask.structures.target import Target

_LEAST_OVERLAP = 1e-3
"""That every point inside an object has: without it an object that no box touches yet would teach nobody."""
_REACH = 0.75
"""Strides from the centre of an object within which a point counts as inside: tiny objects contain no point."""
_LOOKED_AT = 2
"""Masks are compared for this many times as many points as may learn an object."""


class Assignment(NamedTuple):
    """Up to K points for each of G objects of B images.

    Attributes:
        points: (B, G, K) int64, which of the A points, the best first.
        positive: (B, G, K) bool, whether that point learns the object.
        weights: (B, G, K) float32, how much it counts for boxes and masks; 1 for the best.
        neutral: (B, A) bool, points that learn nothing at all unless they are positive.

    """

    points: Tensor
    positive: Tensor
    weights: Tensor
    neutral: Tensor


MaskOverlap = Callable[[Tensor], Tensor]
"""(B, G, K) points to the (B, G, K) IoU of their masks with those of the objects."""


@torch.no_grad()
def assign_aligned(
    config: ProtoConfig,
    class_scores: Tensor,
    boxes: Tensor,
    references: Tensor,
    truth: BatchTruth,
    mask_overlap: MaskOverlap,
    *,
    count: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Let the points learn an object that already predict it best: class score and overlap together (TOOD, eq. 2).

    The overlap is the mean of box and mask IoU. Only points inside the object's box take part. A point that several
    objects want learns the one that it overlaps most.

    Args:
        config: of the network.
        class_scores: (B, A, C) in [0, 1].
        boxes: (B, A, 4) predicted, xyxy relative to the image.
        references: (A, 4) cxcywh.
        truth: of the batch.
        mask_overlap: compares masks.
        count: points for each object; ``points_per_object`` by default.

    Returns:
        points, positive and weights, see `Assignment`.

    """
    count = min(config.points_per_object if count is None else count, len(references))
    overlap = pairwise_iou(truth.boxes, boxes).nan_to_num_(nan=0.0)
    labels = truth.labels[..., None].expand(-1, -1, len(references))
    scores = class_scores.transpose(1, 2).gather(1, labels) ** config.score_power
    inside = _inside(config, truth.boxes, references) & truth.valid[..., None]
    alignment = scores * overlap.clamp(min=_LEAST_OVERLAP) ** config.overlap_power * inside
    looked_at, points = alignment.topk(min(_LOOKED_AT * count, len(references)), dim=-1)
    both = (overlap.gather(-1, points) + mask_overlap(points)) / 2
    both = both.clamp(min=_LEAST_OVERLAP)
    alignment = scores.gather(-1, points) * both**config.overlap_power * (looked_at > 0)
    alignment, order = alignment.topk(count, dim=-1)
    points, both = points.gather(-1, order), both.gather(-1, order)
    positive = _best_owner(points, torch.where(alignment > 0, both, 0.0), len(references))
    alignment = alignment * positive
    weights = alignment / alignment.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(alignment.dtype).tiny)
    return points, positive, weights


@torch.no_grad()
def assign_static(
    config: ProtoConfig, references: Tensor, objects: Sequence[Target], targets: Sequence[Target], truth: BatchTruth
) -> Assignment:
    """Let the points, or anchors, learn an object whose own boxes overlap it, as YOLACT does.

    Args:
        config: of the network.
        references: (A, 4) cxcywh.
        objects: of each image, without crowds.
        targets: the same with crowds.
        truth: the objects as one batch.

    """
    matcher = Matcher(positive_iou=config.positive_iou, negative_iou=config.negative_iou)
    found = [
        matcher(relative_boxes(own), own.labels, references, relative_boxes(target[target.is_crowd]))
        for own, target in zip(objects, targets, strict=True)
    ]
    owners, labels = (torch.stack(parts) for parts in zip(*found, strict=True))
    owners = torch.where(labels > BACKGROUND, owners, -1)
    numbers = torch.arange(truth.valid.shape[1], device=owners.device)
    own = owners[:, None] == numbers[None, :, None]
    corners = torch.cat((references[:, :2] - references[:, 2:] / 2, references[:, :2] + references[:, 2:] / 2), dim=-1)
    overlap = torch.where(own, 1 + pairwise_iou(truth.boxes, corners).nan_to_num(nan=0.0), 0.0)
    best, points = overlap.topk(min(config.points_per_object, len(references)), dim=-1)
    positive = (best > 0) & truth.valid[..., None]
    # What an object has beyond its limit learns nothing, and is not background either.
    return Assignment(points, positive, positive.float(), (labels == NEUTRAL) | (labels > BACKGROUND))


def points_in_crowds(references: Tensor, targets: Sequence[Target]) -> Tensor:
    """(B, A) bool: which points lie on the mask of a crowd."""
    found = torch.zeros(len(targets), len(references), dtype=torch.bool, device=references.device)
    for image, target in enumerate(targets):
        crowds = target.masks[target.is_crowd]
        if len(crowds):
            height, width = target.image_size
            x = (references[:, 0] * width).long().clamp(0, width - 1)
            y = (references[:, 1] * height).long().clamp(0, height - 1)
            found[image] = crowds[:, y, x].any(dim=0)
    return found


def _inside(config: ProtoConfig, boxes: Tensor, references: Tensor) -> Tensor:
    """(B, G, A): which references have their centres in (B, G, 4) boxes, or near the centres of these."""
    reach = references[:, 2:] * (_REACH / POINT_SIDE) if config.head == "points" else references[:, 2:] / 4
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    distance = (references[:, :2] - centre[..., None, :]).abs()
    inside: Tensor = (distance <= torch.maximum(half[..., None, :], reach)).all(dim=-1)
    return inside


def _best_owner(points: Tensor, overlap: Tensor, count: int) -> Tensor:
    """(B, G, K) bool: which objects have no rival of a larger overlap (B, G, K) for a point."""
    flat, values = points.flatten(1), overlap.flatten(1)
    most = values.new_zeros(len(points), count).scatter_reduce(1, flat, values, "amax")
    return (overlap > 0) & (overlap >= most.gather(1, flat).view_as(overlap))
