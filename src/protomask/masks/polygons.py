"""Exact outlines of masks along pixel edges, and masks of polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.masks.runs import flat_ranges


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask, bounded by pixel edges.

    `exterior` is (K, 2), x then y, in pixels of the mask's frame: the first pixel covers [0, 1) x [0, 1), so a mask of
    width W reaches x = W. Clockwise as seen on a screen (y down), not closed (the first vertex is not repeated).
    `holes` are rings of the same kind, counter-clockwise.
    """

    exterior: NDArray[Any]
    holes: tuple[NDArray[Any], ...] = ()


def mask_to_polygons(mask: NDArray[np.bool_], *, offset: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """Exact outlines of a mask along pixel edges; `polygons_to_mask` gives the mask back, pixel for pixel.

    Parts are 4-connected: pixels that touch by a corner only are separate polygons. An island within a hole is a
    polygon of its own. No ring crosses or touches itself, so every polygon is valid for GIS tools. Only corner
    vertices are kept, as int32.

    Args:
        mask: (H, W) bool.
        offset: (x, y) of the first pixel in the frame of the result.

    Returns:
        The polygons, ordered by their topmost-leftmost vertex; [] for an empty mask.
    """
    array = np.asarray(mask, dtype=np.bool_)
    occupied_rows = np.flatnonzero(array.any(axis=1))
    if occupied_rows.size == 0:
        return []
    top, bottom = int(occupied_rows[0]), int(occupied_rows[-1]) + 1
    occupied_columns = np.flatnonzero(array[top:bottom].any(axis=0))
    left, right = int(occupied_columns[0]), int(occupied_columns[-1]) + 1
    rings, owners = _trace_rings(np.pad(array[top:bottom, left:right], 1))
    corner = np.array([left + offset[0], top + offset[1]], dtype=np.int32)
    holes: dict[int, list[NDArray[np.int32]]] = {}
    for index, owner in enumerate(owners):
        if owner == index:
            holes[index] = []
        else:
            holes[owner].append(rings[index] + corner)
    return [Polygon(rings[index] + corner, tuple(own)) for index, own in holes.items()]


def polygons_to_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Rasterise polygons: a pixel is set when its centre lies in some exterior and not in a hole of that polygon.

    Rings must not cross themselves; vertices may have fractions, either direction is accepted, and what lies outside
    the frame is cut off.

    Args:
        polygons: parts of one mask, px.
        size: (H, W) of the frame.

    Returns:
        (H, W) bool.
    """
    height, width = size
    # Winding numbers: +1 inside an exterior, -1 inside a hole, so the sum is positive on the union of the parts.
    winding = np.zeros((height, width + 1), dtype=np.int32)
    starts: list[NDArray[np.float64]] = []
    ends: list[NDArray[np.float64]] = []
    for polygon in polygons:
        for ring, sign in ((polygon.exterior, 1), *((hole, -1) for hole in polygon.holes)):
            vertices = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
            following = np.roll(vertices, -1, axis=0)
            area = vertices[:, 0] @ following[:, 1] - vertices[:, 1] @ following[:, 0]
            forward = (area > 0) == (sign > 0)
            starts.append(vertices if forward else following)
            ends.append(following if forward else vertices)
    if not starts:
        return np.zeros(size, dtype=np.bool_)
    start, end = np.concatenate(starts), np.concatenate(ends)
    # Rows whose centre line y + 0.5 an edge crosses: [ceil(y0 - 0.5), ceil(y1 - 0.5)).
    first_row = np.clip(np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5), 0, height).astype(np.int64)
    last_row = np.clip(np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5), 0, height).astype(np.int64)
    edge, rows = flat_ranges(first_row, last_row - first_row)
    start, end = start[edge], end[edge]
    along = (rows + 0.5 - start[:, 1]) / (end[:, 1] - start[:, 1])
    crossing = start[:, 0] + along * (end[:, 0] - start[:, 0])
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    # With a clockwise ring (y down) the inside is to the right of edges that go up.
    np.add.at(winding, (rows, columns), np.where(end[:, 1] < start[:, 1], 1, -1))
    inside: NDArray[np.bool_] = np.cumsum(winding, axis=1)[:, :width] > 0
    return inside


def _trace_rings(padded: NDArray[np.bool_]) -> tuple[list[NDArray[np.int32]], list[int]]:
    """Boundary rings of a mask with a background border of one pixel, and for each ring the index of its exterior.

    Every boundary vertex where the outline turns ends one horizontal and one vertical segment; where two pixels touch
    by a corner the vertex counts twice. In row order consecutive vertices are the ends of horizontal segments, in
    column order of vertical ones, so a sort replaces the search for neighbours. Rings come in the raster order of
    their first vertex; an exterior is its own owner.
    """
    across = padded[:, :-1] ^ padded[:, 1:]
    both = across[:-1] & across[1:]
    diagonal = both & (padded[:-1, :-1] ^ padded[1:, :-1])
    turning = np.flatnonzero((across[:-1] ^ across[1:]) | diagonal)
    stride = across.shape[1]
    is_double = diagonal.ravel()[turning]
    flat = np.repeat(turning, 1 + is_double)
    rows, columns = np.divmod(flat, stride)
    below_right = padded[rows + 1, columns + 1]

    # The first copy of a double vertex ends the segment to its left, the second the one to its right. The upper segment
    # goes with the pixel above: with the first copy if that pixel is on the left, with the second otherwise.
    first_copy = np.flatnonzero(is_double) + np.arange(np.count_nonzero(is_double))
    copy = np.zeros(len(flat), dtype=np.int64)
    copy[first_copy + 1] = 1
    swapped = np.zeros(len(flat), dtype=np.bool_)
    swapped[first_copy] = swapped[first_copy + 1] = ~below_right[first_copy]
    height = padded.shape[0]
    order = np.argsort((columns * height + rows) * 2 + (copy ^ swapped))
    upper, lower = order[0::2], order[1::2]
    vertical = np.empty_like(order)
    vertical[upper], vertical[lower] = lower, upper

    # Keep the foreground on the right hand: top edges run rightwards, bottom edges leftwards.
    index = np.arange(len(flat))
    runs_right = below_right[index & ~1]
    following = np.where(runs_right ^ (index & 1).astype(np.bool_), index ^ 1, vertical)
    sequence, sizes, ring_of = _cycles(following)
    touching = first_copy[ring_of[first_copy] == ring_of[first_copy + 1]]
    if touching.size:
        # A ring that meets itself in a vertex is cut there into an outline and holes.
        following[touching], following[touching + 1] = following[touching + 1], following[touching]
        sequence, sizes, ring_of = _cycles(following)

    ends = np.cumsum(sizes)
    start = sequence[ends - sizes]
    vertices = np.stack([columns, rows], axis=1).astype(np.int32)[sequence]
    rings = np.split(vertices, ends[:-1])

    # Left of a hole's first vertex lies a run of the part that owns it; the ring at the run's other end tells which.
    owners = list(range(len(rings)))
    holes = np.flatnonzero(~below_right[start])
    edges = np.flatnonzero(across)
    run_end = np.searchsorted(edges, (rows[start[holes]] + 1) * stride + columns[start[holes]])
    edge_rows, edge_columns = np.divmod(edges[run_end - 1], stride)
    segment_keys = columns[upper] * height + rows[upper]
    segment = np.searchsorted(segment_keys, edge_columns * height + edge_rows - 1, side="right") - 1
    for hole, neighbour in zip(holes.tolist(), ring_of[upper[segment]].tolist(), strict=True):
        owners[hole] = owners[neighbour]
    return rings, owners


def _cycles(
    following: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cycles of a permutation: elements one cycle after another, cycle sizes, and the cycle of each element."""
    successor = following.tolist()
    cycle_of = [-1] * len(successor)
    sequence: list[int] = []
    sizes: list[int] = []
    for begin in range(len(successor)):
        if cycle_of[begin] >= 0:
            continue
        before = len(sequence)
        element = begin
        while cycle_of[element] < 0:
            cycle_of[element] = len(sizes)
            sequence.append(element)
            element = successor[element]
        sizes.append(len(sequence) - before)
    return np.array(sequence, dtype=np.int64), np.array(sizes, dtype=np.int64), np.array(cycle_of, dtype=np.int64)
