"""Mask targets from polygons, as the official Mask Scoring R-CNN cuts them, with pycocotools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Polygons = Sequence[Sequence[float]]


def polygon_mask(polygons: Polygons, size: tuple[int, int]) -> Tensor:
    """(H, W) bool."""
    from pycocotools import mask as coco

    return torch.from_numpy(coco.decode(coco.merge(coco.frPyObjects([list(ring) for ring in polygons], *size)))).bool()


def polygon_targets(
    polygons: Polygons, box: Sequence[float], image_size: tuple[int, int], side: int
) -> tuple[Tensor, float]:
    """(side, side) float32 target of one region, and the share of the object's area within it.

    Overlapping polygons count twice in areas.
    """
    # The rasteriser notices that the official code shifts polygons in float32.
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float32)
    width, height = max(x2 - x1, 1), max(y2 - y1, 1)
    rings = [np.reshape(ring, (-1, 2)).astype(np.float32) for ring in polygons]
    scaled = [((ring - (x1, y1)) * (side / width, side / height)).ravel().tolist() for ring in rings]
    inside = _area(rings, (x1, y1), (int(height), int(width)))
    points = np.concatenate(rings)
    left, top = max(min(int(x1), points[:, 0].min()), 0), max(min(int(y1), points[:, 1].min()), 0)
    right = min(max(int(x2) + 1, points[:, 0].max()), image_size[1] - 1)
    bottom = min(max(int(y2) + 1, points[:, 1].max()), image_size[0] - 1)
    whole = _area(rings, (left, top), (int(bottom - top), int(right - left)))
    return polygon_mask(scaled, (side, side)).float(), max(inside / whole, 1e-10) if whole else 1e-10


def _area(rings: Sequence[np.ndarray], origin: tuple[float, float], size: tuple[int, int]) -> float:
    from pycocotools import mask as coco

    codes = coco.frPyObjects([(ring - origin).ravel().tolist() for ring in rings], *size)
    return float(coco.area(codes).astype(np.int64).sum())
