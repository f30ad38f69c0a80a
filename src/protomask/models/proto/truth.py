"""The truth of a batch in tensors of one shape, and the places in objects that the mask losses look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.ops.targets import relative_boxes
from protomask.structures.target import Target

_ENLARGED = 1.3
"""Side of the place that is looked at, in sides of the object's box."""
_MARGIN = 2.0
"""Cells of the prototype grid that it is larger at least, on each side."""


class BatchTruth(NamedTuple):
    """B images with up to G objects; rows beyond an image's last object are not ``valid``.

    Attributes:
        boxes: (B, G, 4) float32 xyxy, relative to the image.
        labels: (B, G) int64.
        valid: (B, G) bool.
        mask_trust: (B, G) float32 in [0, 1], how much each mask teaches.

    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    mask_trust: Tensor

    @property
    def boxed(self) -> Tensor:
        """(B, G) bool: objects of which only the box can be trusted."""
        return self.valid & (self.mask_trust == 0)

    @classmethod
    def of(cls, objects: Sequence[Target]) -> BatchTruth:
        """The objects of B images, without crowds; G is at least 1."""
        most = max(1, *(len(own) for own in objects)) if objects else 1
        device = objects[0].boxes.device
        boxes = torch.zeros(len(objects), most, 4, device=device)
        labels = torch.zeros(len(objects), most, dtype=torch.int64, device=device)
        valid = torch.zeros(len(objects), most, dtype=torch.bool, device=device)
        trust = torch.zeros(len(objects), most, device=device)
        for image, own in enumerate(objects):
            boxes[image, : len(own)] = relative_boxes(own)
            labels[image, : len(own)] = own.labels
            valid[image, : len(own)] = True
            trust[image, : len(own)] = own.mask_trust
        return cls(boxes, labels, valid, trust)


class Places(NamedTuple):
    """P places in each of G objects of B images.

    Attributes:
        positions: (B, G, P, 2) float32 x and y, relative to the image.
        inside: (B, G, P) float32, 1 where the object is.

    """

    positions: Tensor
    inside: Tensor


def choose_places(truth: BatchTruth, objects: Sequence[Target], side: int, grid_size: tuple[int, int]) -> Places:
    """One random place in each cell of a grid of ``side`` x ``side`` over the enlarged box of each object.

    Small objects are looked at as finely as large ones, and at the precision of their annotation: what is expected of
    the losses is what they would be over all pixels (Kirillov et al. 2020, PointRend).
    """
    positions = places_about(truth.boxes, side, grid_size)
    inside = positions.new_zeros(positions.shape[:3])
    for image, own in enumerate(objects):
        if len(own):
            height, width = own.image_size
            at = positions[image, : len(own)]
            x = (at[..., 0] * width).long().clamp(0, width - 1)
            y = (at[..., 1] * height).long().clamp(0, height - 1)
            masks = own.masks.view(len(own), -1).gather(1, y * width + x)
            inside[image, : len(own)] = masks.float()
    return Places(positions, inside)


def places_about(boxes: Tensor, side: int, grid_size: tuple[int, int]) -> Tensor:
    """(B, G, P, 2) places in the enlarged (B, G, 4) boxes, a random one in each cell of a grid of ``side`` cells."""
    extent = boxes[..., 2:] - boxes[..., :2]
    cell = extent.new_tensor([1 / grid_size[1], 1 / grid_size[0]])
    half = torch.maximum(extent * _ENLARGED, extent + 2 * _MARGIN * cell) / 2
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    low, high = (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)
    ticks = torch.arange(side, device=boxes.device)
    cells = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1).reshape(1, 1, -1, 2)
    shares = (cells + torch.rand(*boxes.shape[:2], side * side, 2, device=boxes.device)) / side
    return low[:, :, None] + shares * (high - low)[:, :, None]


def sample_grid(grid: Tensor, positions: Tensor) -> Tensor:
    """Bilinear values of (B, h, w, k) at (B, G, P, 2) positions: (B, G, P, k)."""
    values = F.grid_sample(
        grid.permute(0, 3, 1, 2), 2 * positions - 1, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values.permute(0, 2, 3, 1)
