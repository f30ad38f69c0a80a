"""What an FCIS learns from which anchor and region, as the official training rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from protomask.models.fcis.config import BINS
from protomask.ops.boxes import pairwise_iou
from protomask.structures.target import Target

MIN_SIDE = 1e-2
"""Network pixels; thinner objects are not objects to learn."""
_ENOUGH = 0.4
"""Least share of a mask at a cell's centre that makes the cell a part of the object (float32, as published)."""


def learnable(target: Target) -> Target:
    """The objects of a target: no crowds, and boxes with an area."""
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    return target[~target.is_crowd & (sides > MIN_SIDE).all(dim=1) & sides.isfinite().all(dim=1)]


def pixel_boxes(boxes: Tensor) -> Tensor:
    """(N, 4) boxes that end behind their last pixels as whole numbers of their first and last ones, halves to even."""
    whole = torch.cat((boxes[:, :2], boxes[:, 2:] - 1), dim=1).round()
    return torch.cat((whole[:, :2], torch.maximum(whole[:, :2], whole[:, 2:])), dim=1)


def overlaps(boxes: Tensor, objects: Tensor) -> Tensor:
    """(N, M) IoU of (N, 4) boxes and (M, 4) objects, whose far corners are pixels."""
    grown = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    return pairwise_iou(boxes + grown, objects + grown).nan_to_num(0.0)


def label_anchors(
    anchors: Tensor, objects: Tensor, image_size: tuple[int, int], *, positive_iou: float, negative_iou: float
) -> tuple[Tensor, Tensor]:
    """What anchors learn: the best ones of an object are positive, however little they overlap it.

    If an object overlaps no anchor, the official code makes all anchors positive that overlap nothing; this one does
    not.

    Args:
        anchors: (A, 4) xyxy, network pixels; those that stick out of the image do not train.
        objects: (M, 4), likewise.
        image_size: (H, W) of the image.
        positive_iou: anchors with at least this overlap are positive.
        negative_iou: anchors below are background.

    Returns:
        (A,) int64 labels (1 object, 0 background, -1 neither) and (A,) int64 the object that each overlaps most.

    """
    height, width = image_size
    inside = (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    labels = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    if len(objects) == 0:
        labels[inside] = 0
        return labels, torch.zeros_like(labels)
    iou = overlaps(anchors, objects) * inside[:, None]
    best, owners = iou.max(dim=1)
    labels[best < negative_iou] = 0
    best_of_object = iou.max(dim=0).values
    labels[((iou == best_of_object) & (iou > 0)).any(dim=1)] = 1
    labels[best >= positive_iou] = 1
    labels[~inside] = -1
    return labels, owners


def project_masks(masks: Tensor, objects: Tensor, regions: Tensor) -> Tensor:
    """Which cells of each region are inside its object.

    The part of the mask that lies in the region and in the object's box is resized as OpenCV does, without a filter.

    Args:
        masks: (P, H, W) bool, or float32 shares, network frame.
        objects: (P, 4) boxes of the objects, whole numbers, far corners are pixels.
        regions: (P, 4) xyxy, network pixels, likewise but not whole.

    Returns:
        (P, 21, 21) int64, 0 or 1.

    """
    regions = regions.round()
    rows, row_shares, rows_in = _samples(regions[:, 1::2], objects[:, 1::2], masks.shape[1])
    columns, column_shares, columns_in = _samples(regions[:, 0::2], objects[:, 0::2], masks.shape[2])
    owners = torch.arange(len(masks), device=masks.device)[:, None, None]
    values = masks[owners, rows.flatten(1)[:, :, None], columns.flatten(1)[:, None, :]].float()
    values = values * rows_in.flatten(1)[:, :, None] * columns_in.flatten(1)[:, None, :]
    values = values.view(len(masks), BINS, 2, BINS, 2)
    wide = values[..., 0] * column_shares[:, None, None, :, 0] + values[..., 1] * column_shares[:, None, None, :, 1]
    resized = wide[:, :, 0] * row_shares[:, :, None, 0] + wide[:, :, 1] * row_shares[:, :, None, 1]
    return (resized >= torch.tensor(_ENOUGH, dtype=torch.float32, device=masks.device)).long()


def _samples(sides: Tensor, object_sides: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample (P, 2) first and last pixels: (P, 21, 2) pixels, their shares, and which belong to the object."""
    first, count = sides[:, :1], sides[:, 1:] - sides[:, :1] + 1
    place = (torch.arange(BINS, device=sides.device) + 0.5).to(sides.dtype)
    place = (place * (count / BINS) - 0.5).float()
    low = place.floor()
    share = place - low
    beyond = (low < 0) | (low >= count - 1)  # the edge pixel counts whole
    share = torch.where(beyond, torch.zeros_like(share), share)
    low = torch.minimum(low.clamp(min=0), count.float() - 1)
    pixels = (first + torch.stack((low, torch.minimum(low + 1, count.float() - 1)), dim=-1).flatten(1)).long()
    inside = (pixels >= object_sides[:, :1]) & (pixels <= object_sides[:, 1:])
    pixels = pixels.clamp(0, limit - 1).view(-1, BINS, 2)
    return pixels, torch.stack((1 - share, share), dim=-1), inside.view(-1, BINS, 2).float()
