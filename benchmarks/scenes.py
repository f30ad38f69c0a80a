"""Generated input of the benchmarks, so that none of them needs a download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protomask.structures.instances import Instances


def random_image(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_boxes(count: int, height: int, width: int, seed: int) -> NDArray[np.float32]:
    """(N, 4) float32 xyxy px inside the image; sides of 3 to 30 percent of its own."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.03, 0.3, (count, 2)) * [width, height]
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def ellipse_masks(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """(N, H, W) bool: the ellipse inside each box."""
    masks = np.zeros((len(boxes), height, width), dtype=np.bool_)
    pixels_x, pixels_y = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in (width, height))
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        x = (2 * pixels_x - (x1 + x2)) / (x2 - x1)
        y = (2 * pixels_y - (y1 + y2)) / (y2 - y1)
        mask[:] = x**2 + (y**2)[:, None] <= 1
    return masks


def random_instances(count: int, height: int, width: int, *, num_classes: int, seed: int) -> Instances:
    """Ellipses as predictions, best first."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(count, height, width, seed)
    return Instances(
        boxes=boxes,
        labels=rng.integers(0, num_classes, count),
        class_scores=np.sort(rng.uniform(0.3, 1, count))[::-1].astype(np.float32),
        masks=ellipse_masks(boxes, height, width),
        image_size=(height, width),
        class_names=[f"class {index}" for index in range(num_classes)],
    )
