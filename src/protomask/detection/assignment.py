"""The best pairs of two sets: each member in one pair at most, the sum of gains as large as it can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError


def assign(gains: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose pairs of rows and columns with the largest sum of gains.

    Shortest augmenting paths after Jonker and Volgenant (Computing 38, 1987), which begin with every row at its best
    column; most rows of a tracker stay there.

    Args:
        gains: (N, M), finite; pairs of zero or less are never chosen.

    Returns:
        Rows and columns of the pairs, (K,) int64 each, in the order of the rows.

    Raises:
        DataError: ``gains`` has another shape, or a value that is not finite.

    """
    if gains.ndim != 2 or not np.isfinite(gains).all():
        raise DataError(f"gains: expected finite numbers of shape (N, M), got shape {gains.shape}")
    useful = gains > 0
    rows, columns = np.flatnonzero(useful.any(axis=1)), np.flatnonzero(useful.any(axis=0))
    if not len(rows):
        return rows, columns
    part = np.maximum(gains[np.ix_(rows, columns)], 0).astype(np.float64)
    flipped = len(rows) > len(columns)
    partner = _solve(-(part.T if flipped else part))
    own = np.arange(len(partner))
    first, second = (partner, own) if flipped else (own, partner)
    kept = part[first, second] > 0
    first, second = first[kept], second[kept]
    order = np.argsort(first)
    return rows[first[order]], columns[second[order]]


def _solve(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Column of each row with the least sum of costs, (n, m) with n <= m."""
    count, width = costs.shape
    best = costs.argmin(axis=1)
    row_price = costs[np.arange(count), best]
    column_price = np.zeros(width)
    column_of = np.full(count, -1, dtype=np.int64)
    row_of = np.full(width, -1, dtype=np.int64)
    for row, column in enumerate(best.tolist()):
        if row_of[column] < 0:
            row_of[column], column_of[row] = row, column
    for row in np.flatnonzero(column_of < 0).tolist():
        _augment(row, costs, row_price, column_price, row_of, column_of)
    return column_of


def _augment(
    start: int,
    costs: NDArray[np.float64],
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
    row_of: NDArray[np.int64],
    column_of: NDArray[np.int64],
) -> None:
    """Give one more row its column, along the shortest path of exchanges; everything is changed in place."""
    width = costs.shape[1]
    distance = np.full(width, np.inf)
    came_from = np.full(width, -1, dtype=np.int64)
    done = np.zeros(width, dtype=np.bool_)
    row, reached = start, 0.0
    rows_on_tree = [start]
    while True:
        through = reached + costs[row] - row_price[row] - column_price
        shorter = ~done & (through < distance)
        distance[shorter], came_from[shorter] = through[shorter], row
        column = int(np.where(done, np.inf, distance).argmin())
        reached = float(distance[column])
        done[column] = True
        if row_of[column] < 0:
            break
        row = int(row_of[column])
        rows_on_tree.append(row)
    # Prices keep every reduced cost at zero or more, and those of the pairs at zero.
    row_price[start] += reached
    others = np.array(rows_on_tree[1:], dtype=np.int64)
    row_price[others] += reached - distance[column_of[others]]
    column_price[done] -= reached - distance[done]
    while True:
        row = int(came_from[column])
        row_of[column] = row
        column, column_of[row] = int(column_of[row]), column
        if row == start:
            return
