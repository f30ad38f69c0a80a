"""Anchor grids: the boxes that a single-shot head corrects."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from protomask.errors import ConfigError


def level_anchors(
    grid_size: tuple[int, int],
    *,
    scales: Sequence[float],
    aspect_ratios: Sequence[float],
    image_size: int,
    square: bool,
) -> Tensor:
    """Anchors of one pyramid level.

    Args:
        grid_size: (rows, columns) of the level's feature map.
        scales: side lengths in network pixels.
        aspect_ratios: width over height of each shape.
        image_size: side of the network's input in pixels.
        square: the height equals the width, whatever the aspect ratio: the published YOLACT configs were trained with
            this slip, so three "ratios" are three sizes of squares.

    Returns:
        (rows * columns * scales * ratios, 4) float32 cxcywh relative to the image, not clipped; order: row, column,
        scale, ratio (last is innermost).

    """
    shapes = []
    for scale in scales:
        for ratio in aspect_ratios:
            width = scale * sqrt(ratio) / image_size
            height = width if square else scale / sqrt(ratio) / image_size
            shapes.append((width, height))
    rows, columns = grid_size
    # float64 until the very end: the published grids were computed in Python floats.
    sizes = torch.tensor(shapes, dtype=torch.float64)
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns
    grid = torch.empty(rows, columns, len(shapes), 4, dtype=torch.float64)
    grid[..., 0] = x[None, :, None]
    grid[..., 1] = y[:, None, None]
    grid[..., 2:] = sizes
    return grid.reshape(-1, 4).float()


def pyramid_anchors(
    grid_sizes: Sequence[tuple[int, int]],
    *,
    scales: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
    image_size: int,
    square: bool,
) -> Tensor:
    """Anchors of all levels, finest first; see `level_anchors`.

    Raises:
        ConfigError: not exactly one list of scales for each level.

    """
    if len(grid_sizes) != len(scales):
        raise ConfigError(f"anchor scales: expected one list for each of {len(grid_sizes)} levels, got {len(scales)}")
    return torch.cat(
        [
            level_anchors(size, scales=level, aspect_ratios=aspect_ratios, image_size=image_size, square=square)
            for size, level in zip(grid_sizes, scales, strict=True)
        ]
    )
