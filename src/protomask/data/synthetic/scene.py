"""Synthetic scenes as images with their truth.

A scene is a pure function of ``(seed, index, image_size)``. It is made in two steps: `plan_scene` decides what is
where (shapes, stacking order, visible masks), and `paint_scene` gives the plan colours, textures, light and noise.
Texture and colour are drawn independently of the class, so only shape tells classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protomask.data.synthetic.paint import paint_scene
from protomask.data.synthetic.plan import BoolArray, ByteArray, PlacedObject, plan_scene

if TYPE_CHECKING:
    from protomask.structures.target import Target

GENERATOR_VERSION = 1
"""Raised whenever the pixels or masks of an existing (seed, index) change."""

VAL_INDEX_START = 1_000_000_000
"""Index of the first validation scene: far above any training index, so the two splits never share a scene."""


def render_scene(seed: int, index: int, *, image_size: tuple[int, int] = (256, 256)) -> tuple[ByteArray, Target]:
    """Render one scene; the same arguments always give the same pixels.

    Args:
        seed: data set seed, 0 or more.
        index: scene number, 0 or more; validation scenes start at ``VAL_INDEX_START``.
        image_size: (H, W), each at least 32; objects scale with sqrt(H * W).

    Returns:
        The image (H, W, 3) uint8 RGB, and its truth in the same frame: masks are the visible parts, disjoint, each of
        at least 24 px; boxes are tight around them; ``image_id`` is ``index``.

    Raises:
        ConfigError: a negative seed or index, or an image side below 32.

    """
    import torch

    from protomask.structures.target import Target

    image, placed = draw_scene(seed, index, image_size=image_size)
    masks, boxes = masks_and_boxes(placed, image_size)
    return image, Target(
        boxes=torch.from_numpy(boxes).to(torch.float32).reshape(-1, 4),
        labels=torch.tensor([item.label for item in placed], dtype=torch.int64),
        masks=torch.from_numpy(masks),
        is_crowd=torch.zeros(len(placed), dtype=torch.bool),
        image_size=image_size,
        image_id=index,
    )


def draw_scene(
    seed: int, index: int, *, image_size: tuple[int, int] = (256, 256)
) -> tuple[ByteArray, list[PlacedObject]]:
    """`render_scene` without tensors: the image (H, W, 3) uint8 RGB, and its objects from front to back."""
    placed = plan_scene(seed, index, image_size=image_size)
    return paint_scene(placed, seed, index, image_size=image_size), placed


def masks_and_boxes(placed: Sequence[PlacedObject], image_size: tuple[int, int]) -> tuple[BoolArray, NDArray[np.int64]]:
    """Full-frame visible masks (N, H, W) bool and their tight xyxy boxes (N, 4) px."""
    masks = np.zeros((len(placed), *image_size), dtype=bool)
    boxes = np.zeros((len(placed), 4), dtype=np.int64)
    for number, item in enumerate(placed):
        rows, columns = item.visible.shape
        masks[number, item.top : item.top + rows, item.left : item.left + columns] = item.visible
        ys = np.flatnonzero(item.visible.any(axis=1)) + item.top
        xs = np.flatnonzero(item.visible.any(axis=0)) + item.left
        boxes[number] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return masks, boxes
