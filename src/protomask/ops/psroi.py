"""Position-sensitive RoI pooling with more bins than groups (Li et al. 2017, FCIS, section 3.3), as its authors round.

Of a map of K channels for each of g x g groups, every bin of a region sees those of its own group: K numbers, each the
plain mean of the cells that the bin touches. `torchvision.ops.ps_roi_pool` has as many bins as groups and rounds
otherwise, so other cells count there.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_SIDE = 0.1  # cells


class BinCells(NamedTuple):
    """Which cells the bins of N regions touch.

    Attributes:
        rows: (N, bins, 2) int64, the first row of each line of bins and the one behind the last.
        columns: (N, bins, 2) int64, likewise.
        map_size: (h, w) of the map.

    """

    rows: Tensor
    columns: Tensor
    map_size: tuple[int, int]


class PoolGroups(Protocol):
    """`pool_groups`, or another way to the same numbers."""

    def __call__(self, maps: Tensor, cells: BinCells, *, groups: int) -> Tensor: ...


def bin_cells(boxes: Tensor, map_size: tuple[int, int], *, bins: int, stride: int) -> BinCells:
    """The cells of a map that the bins of some regions touch.

    Corners are rounded to whole pixels, halves away from zero; the far ones belong to the region. What follows is
    float32, as published: other precisions choose other rows and columns for some regions.

    Args:
        boxes: (N, 4) xyxy, network pixels, finite.
        map_size: (h, w) of the map.
        bins: of a region along each axis.
        stride: network pixels per cell.

    """
    whole = round_half_away(boxes)
    sides = [
        _ranges(whole[:, axis].float() / stride, (whole[:, axis + 2].float() + 1) / stride, bins, map_size[1 - axis])
        for axis in (1, 0)
    ]
    return BinCells(sides[0], sides[1], map_size)


def round_half_away(values: Tensor) -> Tensor:
    """Whole numbers, halves away from zero as C's ``round`` has them."""
    whole = values.trunc()
    return whole + torch.sign(values) * ((values - whole).abs() >= 0.5)


def _ranges(start: Tensor, end: Tensor, bins: int, limit: int) -> Tensor:
    """(N, bins, 2) int64 from the (N,) float32 sides of regions, in cells."""
    step = ((end - start).clamp(min=_LEAST_SIDE) / bins)[:, None]
    place = torch.arange(bins, device=start.device, dtype=torch.float32)
    first = (place * step + start[:, None]).floor()
    last = ((place + 1) * step + start[:, None]).ceil()
    return torch.stack((first, last), dim=-1).long().clamp(min=0).clamp(max=limit)


def pool_groups_by_sums(maps: Tensor, cells: BinCells, *, groups: int) -> Tensor:
    """`pool_groups` by sums over rectangles, of operations that every runtime has; rounded a little more.

    Sums of differences from the mean of each map stay small, so float32 keeps about six digits.
    """
    height, width = maps.shape[1], maps.shape[2]
    count, bins = cells.rows.shape[:2]
    table = maps.reshape(-1, groups * groups, height, width).permute(1, 2, 3, 0)
    mean = table.mean(dim=(1, 2))
    sums = F.pad((table - mean[:, None, None]).cumsum(dim=1).cumsum(dim=2), (0, 0, 1, 0, 1, 0))
    flat = sums.reshape(-1, maps.shape[0] // groups**2)
    group = torch.arange(bins, device=maps.device) * groups // bins
    group = (group[:, None] * groups + group).expand(count, bins, bins)
    (top, bottom), (left, right) = cells.rows.unbind(-1), cells.columns.unbind(-1)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        place = (group * (height + 1) + row[:, :, None]) * (width + 1) + column[:, None, :]
        return flat.index_select(0, place.flatten())

    total = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    size = ((bottom - top).clamp(min=0)[:, :, None] * (right - left).clamp(min=0)[:, None, :]).flatten()[:, None]
    means = total / size.clamp(min=1) + mean.index_select(0, group.flatten())
    return (means * (size > 0)).view(count, bins, bins, -1)


def pool_groups(maps: Tensor, cells: BinCells, *, groups: int) -> Tensor:
    """Pool regions from position-sensitive maps.

    Args:
        maps: (K * groups * groups, h, w), channel k * groups^2 + group row * groups + group column.
        cells: what the bins touch, of these h and w.
        groups: along each axis; the number of bins is a multiple.

    Returns:
        (N, bins, bins, K), 0 where a bin touches no cell. Its gradient reaches the maps, not the regions.

    """
    height, width = cells.map_size
    count, bins, _ = cells.rows.shape
    table = maps.reshape(-1, groups * groups, height * width).permute(1, 2, 0).reshape(-1, maps.shape[0] // groups**2)
    if count == 0:
        return table.new_zeros(0, bins, bins, table.shape[1]) + 0 * table.sum()
    group = torch.arange(bins, device=maps.device) * groups // bins
    top, left = cells.rows[:, :, None, 0], cells.columns[:, None, :, 0]
    tall = (cells.rows[:, :, None, 1] - top).clamp(min=0)
    wide = (cells.columns[:, None, :, 1] - left).clamp(min=0)
    corner = ((group[:, None] * groups + group) * height + top) * width + left
    sizes = (tall * wide).flatten()
    starts = sizes.cumsum(0) - sizes
    owner = torch.repeat_interleave(sizes)
    place = torch.arange(len(owner), device=maps.device) - starts[owner]
    across = wide.expand(count, bins, bins).flatten()[owner]
    row = torch.div(place, across, rounding_mode="floor")
    chosen = corner.flatten()[owner] + row * width + (place - row * across)
    pooled = F.embedding_bag(chosen, table, starts, mode="mean")
    return pooled.view(count, bins, bins, -1)
