"""Truths of images, made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from protomask.structures.target import Target


def empty_target(image_size: tuple[int, int], image_id: int | None = None) -> Target:
    """Nothing annotated in an image of size (H, W)."""
    return target_of_boxes([], size=image_size, image_id=image_id)


def target_of_boxes(
    boxes: Sequence[tuple[float, ...]],
    *,
    size: tuple[int, int],
    crowds: tuple[int, ...] = (),
    image_id: int | None = None,
) -> Target:
    """Objects whose masks are the pixels inside their boxes; labels 0, 1, 2, 0 and so on."""
    corners = torch.tensor(list(boxes), dtype=torch.float32).reshape(-1, 4)
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    left, top, right, bottom = (corners[:, side, None, None] for side in range(4))
    return Target(
        boxes=corners,
        labels=torch.arange(len(corners)) % 3,
        masks=(columns >= left) & (columns < right) & (rows >= top) & (rows < bottom),
        is_crowd=torch.tensor([index in crowds for index in range(len(corners))], dtype=torch.bool),
        image_size=size,
        image_id=image_id,
    )
