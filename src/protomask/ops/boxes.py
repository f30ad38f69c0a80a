"""Boxes as plain tensors: formats, overlaps, the encodings of SSD and of Faster R-CNN.

``boxes`` are xyxy, ``boxes_cxcywh`` centre and size; both in one frame of the caller's choice, float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCES = (0.1, 0.2)
"""Scale of the encoded centre and size offsets (Liu et al. 2016, SSD; the values of its reference implementation)."""
MAX_SIZE_DELTA = math.log(1000 / 16)
"""Largest size offset that two-stage detectors believe: 62.5 times the reference's side."""

MAX_LOG_DISTANCE = 5.0
"""Largest logarithm of a distance that is believed: 148 times the unit."""


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


def decode_boxes(
    box_deltas: Tensor,
    anchors_cxcywh: Tensor,
    variances: tuple[float, float] = VARIANCES,
    max_size_ratio: float | None = None,
) -> Tensor:
    """Inverse of `encode_boxes`.

    Args:
        box_deltas: (..., N, 4).
        anchors_cxcywh: (N, 4).
        variances: as in `encode_boxes`.
        max_size_ratio: limit on how many times larger or smaller than its anchor's a side may become; None for no
            limit.

    Returns:
        (..., N, 4) xyxy in the anchors' frame, not clipped.

    """
    centre = anchors_cxcywh[..., :2] + box_deltas[..., :2] * variances[0] * anchors_cxcywh[..., 2:]
    log_ratio = box_deltas[..., 2:] * variances[1]
    if max_size_ratio is not None:
        log_ratio = log_ratio.clamp(-math.log(max_size_ratio), math.log(max_size_ratio))
    size = anchors_cxcywh[..., 2:] * torch.exp(log_ratio)
    low = centre - size / 2
    return torch.cat((low, low + size), dim=-1)


def encode_distances(boxes: Tensor, references_cxcywh: Tensor) -> Tensor:
    """Logarithms of the distances from the centres of squares to the sides of boxes about them.

    Args:
        boxes: (..., 4) xyxy that contain the centres.
        references_cxcywh: (..., 4), same frame; half their sides are the unit.

    Returns:
        (..., 4) of left, top, right, bottom; a centre outside its box counts as just inside.

    """
    centre, unit = references_cxcywh[..., :2], references_cxcywh[..., 2:] / 2
    distances = torch.cat(((centre - boxes[..., :2]) / unit, (boxes[..., 2:] - centre) / unit), dim=-1)
    return distances.clamp(min=math.exp(-MAX_LOG_DISTANCE)).log()


def decode_distances(values: Tensor, references_cxcywh: Tensor) -> Tensor:
    """Inverse of `encode_distances`.

    Args:
        values: (..., A, 4); beyond `MAX_LOG_DISTANCE` they count as that.
        references_cxcywh: (A, 4).

    Returns:
        (..., A, 4) xyxy in the frame of the references, not clipped.

    """
    unit = references_cxcywh[..., 2:] / 2
    distances = values.clamp(-MAX_LOG_DISTANCE, MAX_LOG_DISTANCE).exp()
    low = references_cxcywh[..., :2] - distances[..., :2] * unit
    return torch.cat((low, references_cxcywh[..., :2] + distances[..., 2:] * unit), dim=-1)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes one by one.

    Args:
        first: (..., 4) xyxy.
        second: (..., 4) xyxy, same frame.

    Returns:
        (...) in [0, 1].

    """
    intersection, union = _paired_areas(first, second)
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap that also says how far apart boxes are (Rezatofighi et al. 2019, GIoU, algorithm 1).

    Args:
        first: (..., 4) xyxy.
        second: (..., 4) xyxy, same frame.

    Returns:
        (...) in [-1, 1].

    """
    intersection, union = _paired_areas(first, second)
    hull_low, hull_high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = (hull_high - hull_low).prod(dim=-1)
    tiny = torch.finfo(union.dtype).tiny
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _paired_areas(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of the intersection and of the union of (..., 4) boxes one by one."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    return intersection, box_area(first) + box_area(second) - intersection


def encode_deltas(
    boxes: Tensor, references: Tensor, *, weights: tuple[float, float] = (1.0, 1.0), extent_offset: float = 0.0
) -> Tensor:
    """Offsets that turn references into boxes (Faster R-CNN, eq. 2).

    Args:
        boxes: (N, 4) xyxy.
        references: (N, 4) xyxy anchors or proposals, same frame.
        weights: factors of the centre and the size offsets.
        extent_offset: 1 where a box from 3 to 5 counts as three wide, else 0.

    Returns:
        (N, 4) dx, dy, dw, dh.

    """
    size, reference_size = _sizes(boxes, extent_offset), _sizes(references, extent_offset)
    centre, reference_centre = boxes[:, :2] + 0.5 * size, references[:, :2] + 0.5 * reference_size
    return torch.cat(
        (
            weights[0] * (centre - reference_centre) / reference_size,
            weights[1] * torch.log(size / reference_size),
        ),
        dim=1,
    )


def decode_deltas(
    box_deltas: Tensor,
    references: Tensor,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    extent_offset: float = 0.0,
    limit_below: bool = False,
    limit_above: bool = True,
) -> Tensor:
    """Inverse of `encode_deltas`.

    Args:
        box_deltas: (N, 4).
        references: (N, 4) xyxy.
        weights: as in `encode_deltas`.
        extent_offset: as in `encode_deltas`.
        limit_below: sizes are at least the 62.5th part of those of the references.
        limit_above: sizes are at most 62.5 times those of the references.

    Returns:
        (N, 4) xyxy in the frame of the references, not clipped.

    """
    reference_size = _sizes(references, extent_offset)
    centre = box_deltas[:, :2] / weights[0] * reference_size + (references[:, :2] + 0.5 * reference_size)
    size_deltas = box_deltas[:, 2:] / weights[1]
    if limit_above:
        size_deltas = size_deltas.clamp(max=MAX_SIZE_DELTA)
    if limit_below:
        size_deltas = size_deltas.clamp(min=-MAX_SIZE_DELTA)
    half = 0.5 * (torch.exp(size_deltas) * reference_size)
    return torch.cat((centre - half, centre + half - extent_offset), dim=1)


def clip_to_image(boxes: Tensor, image_size: tuple[int, int], extent_offset: float = 0.0) -> Tensor:
    """(..., 4) xyxy, cut to 0..w and 0..h (each less the offset)."""
    height, width = image_size
    x = boxes[..., 0::2].clamp(min=0).clamp(max=width - extent_offset)
    y = boxes[..., 1::2].clamp(min=0).clamp(max=height - extent_offset)
    return torch.stack((x, y), dim=-1).flatten(-2)


def is_at_least(boxes: Tensor, side: float, extent_offset: float = 0.0) -> Tensor:
    """(N,) bool: both sides of (N, 4) xyxy boxes are at least so long."""
    return (boxes[:, 2:] - boxes[:, :2] + extent_offset >= side).all(dim=1)


def _sizes(boxes: Tensor, extent_offset: float) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2] + extent_offset
