"""The truth of an image as the losses of prototype models read it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.structures.target import Target

MIN_EXTENT = 1e-4
"""Share of the image below which a side counts as none (0.05 px of 550): its mask loss would outweigh all others."""
_MASKS_AT_ONCE = 8


def learnable(target: Target) -> Target:
    """The objects of a target: no crowds, and boxes with an area."""
    boxes = relative_boxes(target)
    extent = boxes[:, 2:] - boxes[:, :2]
    return target[~target.is_crowd & (extent > MIN_EXTENT).all(dim=1) & extent.isfinite().all(dim=1)]


def relative_boxes(target: Target) -> Tensor:
    """(N, 4) xyxy, divided by the size of the target's frame."""
    height, width = target.image_size
    return target.boxes / target.boxes.new_tensor([width, height, width, height])


def shrink_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) bool to (N, h, w) bool: bilinear interpolation, then more than a half."""
    if len(masks) == 0:
        return masks.new_zeros(0, *size)
    # A few at a time stay in the cache; as float32 the masks of a crowded image would fill a gigabyte.
    parts = [
        F.interpolate(part[None].float(), size, mode="bilinear", align_corners=False)[0] > 0.5
        for part in torch.split(masks, _MASKS_AT_ONCE)
    ]
    return torch.cat(parts)
