"""Masks on a coarse grid of their frame: cheap to compare, to move and to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.masks.runs import Runs, flat_ranges

_COLUMNS_PER_CELL = 4
"""Pixel columns of a cell that are looked at; rows are counted exactly."""


class CoarseMask(NamedTuple):
    """A mask on a coarse grid: `shares` (h, w) float32 in [0, 1] of the cells of a window, its first cell in (row
    `top`, column `left`), which may lie outside the grid. All other cells are zero.
    """

    top: int
    left: int
    shares: NDArray[np.float32]

    @property
    def bottom(self) -> int:
        """Row after the last one."""
        return self.top + len(self.shares)

    @property
    def right(self) -> int:
        """Column after the last one."""
        return self.left + int(self.shares.shape[1])

    def moved(self, x: int, y: int) -> CoarseMask:
        """The same mask some cells further right and down."""
        return CoarseMask(self.top + y, self.left + x, self.shares)

    def within(self, other: CoarseMask) -> NDArray[np.float32]:
        """The part of the shares in the window of another mask; fewer rows or columns where it does not reach."""
        top, left, (height, width) = other.top - self.top, other.left - self.left, other.shares.shape
        return self.shares[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]

    def united(self, other: CoarseMask) -> CoarseMask:
        """Take the larger share of each cell."""
        if not other.shares.size:
            return self
        if not self.shares.size:
            return other
        top, left = min(self.top, other.top), min(self.left, other.left)
        shares = np.zeros((max(self.bottom, other.bottom) - top, max(self.right, other.right) - left), np.float32)
        for part in (self, other):
            place = shares[part.top - top : part.bottom - top, part.left - left : part.right - left]
            np.maximum(place, part.shares, out=place)
        return CoarseMask(top, left, shares)


_NOTHING = CoarseMask(0, 0, np.zeros((0, 0), dtype=np.float32))


def coarse_size(image_size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Size (rows, columns) of a grid of as square cells as possible, up to ``longest`` on the longer side."""
    height, width = image_size
    scale = min(1.0, longest / max(height, width, 1))
    return max(1, round(height * scale)), max(1, round(width * scale))


def coarse_masks(runs: Sequence[Runs], image_size: tuple[int, int], grid_size: tuple[int, int]) -> list[CoarseMask]:
    """Share of each cell of a grid that each mask covers.

    Shares are exact where a cell is up to 4 pixels wide; in wider cells 4 columns stand for all.

    Args:
        runs: of each mask, in a frame of ``image_size``.
        image_size: (H, W) of the frame, pixels.
        grid_size: (h, w) of the grid over the whole frame, cells; not above ``image_size``.

    """
    (height, width), (rows, columns) = image_size, grid_size
    owner = np.repeat(np.arange(len(runs)), [len(own) for own in runs])
    if not len(owner) or height == 0 or width == 0:
        return [_NOTHING] * len(runs)
    begin, end, column, owner = _by_column(np.concatenate(runs), owner, height)
    cell, weight = _sampled_columns(width, columns)
    used = weight[column] > 0
    begin, end, column, owner = begin[used], end[used], column[used], owner[used]
    # Each mask has a window of its own, column after column, in one long array.
    left, right = _reach(cell[column], owner, len(runs), columns)
    top, bottom = _reach(np.concatenate([begin, end - 1]) * rows // height, np.tile(owner, 2), len(runs), rows)
    side = bottom - top + 2
    starts = np.concatenate([[0], np.cumsum(side * (right - left))])
    first = starts[owner] + (cell[column] - left[owner]) * side[owner] - top[owner]
    steps = _ramps(
        first, np.divmod(begin * rows, height), np.divmod(end * rows, height), height, weight[column], int(starts[-1])
    )
    return [
        CoarseMask(y, x, np.ascontiguousarray(steps[start:stop].reshape(-1, own)[:, :-2].T))
        if stop > start
        else _NOTHING
        for y, x, start, stop, own in zip(
            top.tolist(), left.tolist(), starts[:-1].tolist(), starts[1:].tolist(), side.tolist(), strict=True
        )
    ]


def _ramps(
    first: NDArray[np.int64],
    begin: tuple[NDArray[np.int64], NDArray[np.int64]],
    end: tuple[NDArray[np.int64], NDArray[np.int64]],
    height: int,
    weight: NDArray[np.float64],
    length: int,
) -> NDArray[np.float32]:
    """Covered shares along one long array: a run adds a ramp where it begins and takes one away where it ends.

    Places are whole cells and what is left of them, of ``height``: in floats a run could begin before its window.
    """
    places, values = [], []
    for (above, rest), signed in ((begin, weight), (end, -weight)):
        part = rest / height
        places += [first + above, first + above + 1]
        values += [signed * (1 - part), signed * part]
    steps = np.bincount(np.concatenate(places), weights=np.concatenate(values), minlength=length)
    return np.clip(np.cumsum(steps), 0, 1).astype(np.float32)


def _reach(
    places: NDArray[np.int64], owner: NDArray[np.int64], count: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First place and the one after the last of each owner, both 0 where it has none."""
    low, high = np.full(count, limit, dtype=np.int64), np.zeros(count, dtype=np.int64)
    np.minimum.at(low, owner, places)
    np.maximum.at(high, owner, places + 1)
    return np.minimum(low, high), high


def _by_column(
    runs: Runs, owner: NDArray[np.int64], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First row, last row (exclusive), column and owner of every run; runs that go on in the next column are cut."""
    column = runs[:, 0] // height
    last = (runs[:, 1] - 1) // height
    if bool((column == last).all()):
        return runs[:, 0] - column * height, runs[:, 1] - column * height, column, owner
    own, each = flat_ranges(column, last - column + 1)
    begin = np.maximum(runs[own, 0] - each * height, 0)
    end = np.minimum(runs[own, 1] - each * height, height)
    return begin, end, each, owner[own]


def _sampled_columns(width: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cell of each pixel column, and its weight in it; the weights of a cell add up to 1."""
    cell = np.arange(width, dtype=np.int64) * columns // width
    first = np.searchsorted(cell, np.arange(columns))
    inside = np.arange(width) - first[cell]
    sides = np.bincount(cell, minlength=columns)
    step = np.maximum(sides // _COLUMNS_PER_CELL, 1)
    chosen = inside % step[cell] == step[cell] // 2
    counts = np.bincount(cell, weights=chosen, minlength=columns)
    return cell, np.where(chosen, 1.0 / np.maximum(counts[cell], 1), 0.0)
