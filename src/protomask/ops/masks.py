"""Masks on tensors: assembly from prototypes, crop, overlaps."""

from __future__ import annotations

import torch
from torch import Tensor


def assemble_masks(prototypes: Tensor, mask_coefficients: Tensor) -> Tensor:
    """Linear combination of prototypes, YOLACT eq. 1: M = sigmoid(P C^T).

    Args:
        prototypes: (h, w, k) float, prototype grid.
        mask_coefficients: (N, k) float, one row per instance.

    Returns:
        (N, h, w) float in 0..1, prototype grid.
    """
    height, width, count = prototypes.shape
    logits = mask_coefficients @ prototypes.reshape(height * width, count).t()
    return logits.view(-1, height, width).sigmoid()


def sanitize_boxes(boxes: Tensor, size: tuple[int, int], *, padding: int = 0, truncate: bool = False) -> Tensor:
    """Relative boxes to pixels the way the official YOLACT code does it.

    Corners are multiplied by the size, truncated if asked, swapped where reversed, padded, and clamped on one side
    each: left and top from below at 0, right and bottom from above at the size. A box wholly outside the frame
    therefore stays outside (left > right = width, or right < left = 0).

    Args:
        boxes: (N, 4) float xyxy, relative to the frame (0..1 inside it).
        size: (H, W) of the frame in pixels.
        padding: pixels added on each side.
        truncate: drop the fraction (towards zero), before padding.

    Returns:
        (N, 4) xyxy px; int64 if `truncate`, else the dtype of `boxes`.
    """
    height, width = size
    corners = boxes * boxes.new_tensor([width, height, width, height])
    if truncate:
        corners = corners.long()
    top_left = (torch.minimum(corners[:, :2], corners[:, 2:]) - padding).clamp(min=0)
    bottom_right = torch.maximum(corners[:, :2], corners[:, 2:]) + padding
    bottom_right = torch.minimum(bottom_right, bottom_right.new_tensor([width, height]))
    # Not by `torch.cat`, for which `torch.vmap` must know the size of a batch.
    return torch.stack((top_left, bottom_right), dim=1).flatten(1)


def crop_windows(boxes: Tensor, size: tuple[int, int], *, padding: int = 1) -> Tensor:
    """Which grid cells lie inside each box.

    A column is inside when left <= index < right with the unrounded bounds of `sanitize_boxes`; rows likewise. Reversed
    corners are swapped.

    Args:
        boxes: (N, 4) float xyxy, relative to the frame the grid covers (0..1 inside it).
        size: (h, w) of the grid.
        padding: grid cells kept around each box.

    Returns:
        (N, h, w) bool.
    """
    height, width = size
    left, top, right, bottom = sanitize_boxes(boxes, size, padding=padding)[:, :, None].unbind(1)
    columns = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    rows = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    inside_columns = (columns >= left) & (columns < right)
    inside_rows = (rows >= top) & (rows < bottom)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def crop_masks(masks: Tensor, boxes: Tensor, *, padding: int = 1) -> Tensor:
    """Set masks to zero outside their boxes, see `crop_windows`. Differentiable in `masks`.

    Args:
        masks: (N, h, w) float, any grid.
        boxes: (N, 4) float xyxy, relative to the frame the grid covers (0..1 inside it).
        padding: grid cells kept around each box.

    Returns:
        (N, h, w), dtype of `masks`.
    """
    _, height, width = masks.shape
    return masks * crop_windows(boxes, (height, width), padding=padding)


def mask_iou(a: Tensor, b: Tensor, is_crowd: Tensor | None = None) -> Tensor:
    """Overlap of every mask of `a` with every mask of `b`.

    Args:
        a: (N, ...) bool or 0/1, the predictions.
        b: (M, ...) bool or 0/1, same trailing shape, the truths.
        is_crowd: (M,) bool; against a crowd the intersection is divided by the area of `a` alone (COCO convention).

    Returns:
        (N, M) float32 in 0..1; 0 where the denominator is 0.
    """
    flat_a = a.reshape(a.shape[0], -1) if a.numel() else a.new_zeros((a.shape[0], 1))
    flat_b = b.reshape(b.shape[0], -1) if b.numel() else b.new_zeros((b.shape[0], flat_a.shape[1]))
    if flat_a.shape[1] != flat_b.shape[1]:
        flat_a = flat_a.new_zeros((flat_a.shape[0], flat_b.shape[1]))
    flat_a, flat_b = flat_a.float(), flat_b.float()
    intersection = flat_a @ flat_b.t()
    area_a = flat_a.sum(dim=1)[:, None]
    denominator = area_a + flat_b.sum(dim=1) - intersection
    if is_crowd is not None:
        denominator = torch.where(is_crowd.to(denominator.device)[None], area_a, denominator)
    return intersection / denominator.clamp(min=1)
