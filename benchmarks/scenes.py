"""Generated input of the benchmarks, so that none of them needs a download."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from protomask.structures.instances import Instances


def random_image(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_boxes(count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """(N, 4) float32 xyxy px inside the image; sides of 3 to 30 percent of its own."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.03, 0.3, (count, 2)) * [width, height]
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1).astype(np.float32))


def ellipse_masks(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, H, W) bool: the ellipse inside each box."""
    centres, radii = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x = (torch.arange(width) + 0.5 - centres[:, :1]) / radii[:, :1]
    y = (torch.arange(height) + 0.5 - centres[:, 1:]) / radii[:, 1:]
    return x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1


def random_instances(count: int, height: int, width: int, *, num_classes: int, seed: int) -> Instances:
    """Ellipses as predictions, best first."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(count, height, width, seed)
    return Instances(
        boxes=boxes,
        labels=torch.from_numpy(rng.integers(0, num_classes, count)),
        class_scores=torch.from_numpy(np.sort(rng.uniform(0.3, 1, count))[::-1].astype(np.float32)),
        masks=ellipse_masks(boxes, height, width),
        image_size=(height, width),
        class_names=[f"class {index}" for index in range(num_classes)],
    )
