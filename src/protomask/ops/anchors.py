"""Anchor grids: the boxes that a single-shot head corrects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from protomask.errors import ConfigError

AnchorSizes = tuple[tuple[float, ...], ...]
"""Side lengths for each level, network pixels."""


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """What a network makes of images, as far as the fit to a data set goes.

    Attributes:
        name: of the model, for messages.
        resized_size: (H, W) that an image of a size (H, W) is brought to.
        anchor_sizes: side lengths for each level, network pixels.
        anchors: makes those of every level from such sizes: (A, 4) xyxy, network pixels, first all of one cell.
        anchors_per_cell: number of them in one cell of a level.
        positive_iou: an anchor must overlap an object that much to learn it.
        size_option: field of the model's configuration that holds the sizes; all in one list if ``flat_sizes``, else
            one list for each level.
        flat_sizes: see there.
        max_detections: instances that the model returns at most.

    """

    name: str
    resized_size: Callable[[tuple[int, int]], tuple[int, int]]
    anchor_sizes: AnchorSizes
    anchors: Callable[[AnchorSizes], Sequence[Tensor]]
    anchors_per_cell: int
    positive_iou: float
    size_option: str
    flat_sizes: bool
    max_detections: int

    def as_options(self, sizes: AnchorSizes) -> str:
        """Sizes as text for ``--model-options``."""
        values = [size for level in sizes for size in level] if self.flat_sizes else sizes
        return json.dumps({self.size_option: values})


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


def cell_anchors(
    size: float, aspect_ratios: Sequence[float], *, stride: int, kind: Literal["rounded", "exact", "legacy"]
) -> Tensor:
    """Anchors of the first cell of a level, as two-stage detectors have them.

    Args:
        size: square root of the area, network pixels.
        aspect_ratios: HEIGHT over width of each shape.
        stride: of the level; only legacy anchors depend on it.
        kind: "exact": about the corner of the cell; "rounded": the same with corners on whole pixels; "legacy": those
            of the original Faster R-CNN, which rounds the sides of an anchor as large as a cell, enlarges it, and
            counts a box from 3 to 5 as three wide.

    Returns:
        (ratios, 4) float32 xyxy, network pixels.

    """
    ratios = torch.tensor(aspect_ratios, dtype=torch.float64 if kind == "legacy" else torch.float32)
    if kind == "legacy":
        widths = torch.round(torch.sqrt(stride * stride / ratios))
        half = 0.5 * (torch.stack((widths, torch.round(widths * ratios)), dim=1) * (size / stride) - 1)
        centre = (stride - 1) / 2
        return torch.cat((centre - half, centre + half), dim=1).float()
    height_share = torch.sqrt(ratios)
    half = torch.stack((1 / height_share, height_share), dim=1) * size / 2
    corners = torch.cat((-half, half), dim=1)
    return corners.round() if kind == "rounded" else corners


def shifted_anchors(cell: Tensor, grid_size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """Anchors of a whole level.

    Args:
        cell: (A, 4) xyxy of the first cell.
        grid_size: (rows, columns).
        strides: (vertical, horizontal), network pixels.

    Returns:
        (rows * columns * A, 4) xyxy; order: row, column, anchor.

    """
    y = torch.arange(grid_size[0], dtype=cell.dtype) * strides[0]
    x = torch.arange(grid_size[1], dtype=cell.dtype) * strides[1]
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((columns, rows, columns, rows), dim=-1)
    return (shifts[:, :, None] + cell).reshape(-1, 4)
