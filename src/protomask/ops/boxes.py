"""Boxes as plain tensors: formats, overlaps and the SSD encoding.

``boxes`` are xyxy, ``boxes_cxcywh`` centre and size; both in one frame of the caller's choice, float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

VARIANCES = (0.1, 0.2)
"""Scale of the encoded centre and size offsets (Liu et al. 2016, SSD; the values of its reference implementation)."""


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre and size to corners."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) corners to centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((high + low) / 2, high - low), dim=-1)


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """(..., 4) COCO corner and size to corners."""
    return torch.cat((boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) to (...): width times height, negative extents as they are."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_intersection(first: Tensor, second: Tensor) -> Tensor:
    """(..., A, 4) and (..., B, 4) to (..., A, B): area of the common rectangle."""
    high = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    low = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    extent = (high - low).clamp_(min=0)
    return extent[..., 0] * extent[..., 1]


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair.

    Args:
        first: (..., A, 4) xyxy.
        second: (..., B, 4) xyxy, same frame.

    Returns:
        (..., A, B) in [0, 1]; NaN where both boxes are empty.

    """
    intersection = pairwise_intersection(first, second)
    union = box_area(first)[..., :, None] + box_area(second)[..., None, :] - intersection
    return intersection / union


def pairwise_ioa(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over the area of the *first* box, the overlap COCO uses with crowd regions.

    Args:
        first: (..., A, 4) xyxy.
        second: (..., B, 4) xyxy crowd regions, same frame.

    Returns:
        (..., A, B) in [0, 1]; NaN where the first box is empty.

    """
    return pairwise_intersection(first, second) / box_area(first)[..., :, None]


def encode_boxes(boxes: Tensor, anchors_cxcywh: Tensor, variances: tuple[float, float] = VARIANCES) -> Tensor:
    """Offsets that turn anchors into boxes (SSD, eq. 2).

    Args:
        boxes: (N, 4) xyxy with positive width and height.
        anchors_cxcywh: (N, 4), same frame.
        variances: divisors of the centre and the size offsets.

    Returns:
        (N, 4) dx, dy, dw, dh.

    """
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - anchors_cxcywh[:, :2]) / (variances[0] * anchors_cxcywh[:, 2:])
    size = torch.log((boxes[:, 2:] - boxes[:, :2]) / anchors_cxcywh[:, 2:]) / variances[1]
    return torch.cat((centre, size), dim=1)


def decode_boxes(box_deltas: Tensor, anchors_cxcywh: Tensor, variances: tuple[float, float] = VARIANCES) -> Tensor:
    """Inverse of `encode_boxes`.

    Args:
        box_deltas: (..., N, 4).
        anchors_cxcywh: (N, 4).
        variances: as in `encode_boxes`.

    Returns:
        (..., N, 4) xyxy in the anchors' frame, not clipped.

    """
    centre = anchors_cxcywh[..., :2] + box_deltas[..., :2] * variances[0] * anchors_cxcywh[..., 2:]
    size = anchors_cxcywh[..., 2:] * torch.exp(box_deltas[..., 2:] * variances[1])
    low = centre - size / 2
    return torch.cat((low, low + size), dim=-1)
