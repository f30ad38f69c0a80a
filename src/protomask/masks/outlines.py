"""Outlines made of points, rasterised pixel for pixel as the COCO API does it, cut off at the frame before.

The COCO API (pycocotools, `rleFrPoly`) walks along every edge in steps of a fifth of a pixel, and notes where the walk
passes from one side of a pixel column's middle to the other. Here only the columns of the frame are looked at, and the
place of each passage is computed. So time and memory follow from the number of points and the width of the frame; they
do not grow with the coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protomask.masks.runs import Runs, flat_ranges, unite_runs

_SCALE = 5  # steps per pixel
_CHUNK = 1 << 18  # passages computed at a time
MAX_COORDINATE = 1e5
"""Largest coordinate in px; anything beyond is a mistake, not an outline."""
MIN_PASSAGES = 1 << 18
"""Passages of an outline through columns that are always computed, however small the frame is."""


def outline_runs(parts: Sequence[Sequence[float]], size: tuple[int, int]) -> Runs:
    """The pixels that outlines enclose together, each by the even-odd rule.

    Args:
        parts: outlines [x1, y1, x2, y2, ...] in px, each of three points or more, coordinates finite and at most
            `MAX_COORDINATE`.
        size: (H, W) of the frame.

    Returns:
        The runs of the mask in the frame.

    Raises:
        ValueError: coordinates are not finite or too large, or the outlines are longer than any in such a frame.

    """
    height, width = size
    part, start, end = _edges(parts)
    low = np.minimum(start[:, 0], end[:, 0])
    high = np.maximum(start[:, 0], end[:, 0])
    # The middle of column c lies between the steps 5c + 2 and 5c + 3.
    first = np.clip(-(-(low - 2) // _SCALE), 0, width)
    last = np.clip((high - 3) // _SCALE, -1, width - 1)
    counts = np.maximum(last - first + 1, 0)
    total = int(counts.sum())
    if total > max(MIN_PASSAGES, 4 * height * width):
        raise ValueError("the outline is longer than any in an image of this size")
    kept = np.flatnonzero(counts)
    part, start, end, first, counts = part[kept], start[kept], end[kept], first[kept], counts[kept]
    places = np.empty(total, dtype=np.int64)
    owners = np.empty(total, dtype=np.int64)
    done = 0
    for chosen in _chunks(counts):
        edge, column = flat_ranges(first[chosen], counts[chosen])
        row = _rows(start[chosen][edge], end[chosen][edge], column, height)
        places[done : done + len(row)] = column * height + row
        owners[done : done + len(row)] = part[chosen][edge]
        done += len(row)
    # Every outline by itself, one after another: its passages in pairs are where its mask begins and ends.
    order = np.lexsort((places, owners))
    runs = places[order].reshape(-1, 2)
    return unite_runs([runs[runs[:, 1] > runs[:, 0]]])


def _edges(parts: Sequence[Sequence[float]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Part, start and end of every edge, in steps."""
    points = []
    for numbers in parts:
        try:
            values = np.asarray(numbers, dtype=np.float64)
        except (OverflowError, ValueError, TypeError) as error:
            raise ValueError("coordinates are not finite or absurdly large") from error
        points.append(values[: len(values) // 2 * 2].reshape(-1, 2))
    every = np.concatenate([np.zeros((0, 2)), *points])
    if not (np.abs(every) <= MAX_COORDINATE).all():
        raise ValueError("coordinates are not finite or absurdly large")
    steps = np.trunc(_SCALE * every + 0.5).astype(np.int64)
    counts = np.array([len(one) for one in points], dtype=np.int64)
    following = np.arange(1, len(steps) + 1)
    ends = np.cumsum(counts)
    following[ends[counts > 0] - 1] = (ends - counts)[counts > 0]
    return np.repeat(np.arange(len(points)), counts), steps, steps[following]


def _chunks(counts: NDArray[np.int64]) -> list[slice]:
    """Slices of edges that have about as many passages each."""
    if not len(counts):
        return []
    number = np.cumsum(counts) // _CHUNK
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(counts)]
    return [slice(begin, stop) for begin, stop in pairwise(cuts)]


def _rows(
    start: NDArray[np.int64], end: NDArray[np.int64], column: NDArray[np.int64], height: int
) -> NDArray[np.int64]:
    """Rows (0..height) at which edges pass the middles of columns, with the roundings of the COCO API."""
    dx, dy = np.abs(end[:, 0] - start[:, 0]), np.abs(end[:, 1] - start[:, 1])
    flat = dx >= dy
    flip = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    xs, ys = np.where(flip, end[:, 0], start[:, 0]), np.where(flip, end[:, 1], start[:, 1])
    xe, ye = np.where(flip, start[:, 0], end[:, 0]), np.where(flip, start[:, 1], end[:, 1])
    before = _SCALE * column + 2
    # Along x: the two steps are known, and the lower of their rows counts.
    slope = np.where(flat, (ye - ys) / np.maximum(dx, 1), (xe - xs) / np.maximum(dy, 1))
    along = before - xs
    low = np.minimum(_cut(ys + slope * along + 0.5), _cut(ys + slope * (along + 1) + 0.5))
    steep = np.flatnonzero(~flat)
    if len(steep):
        low[steep] = _steep_rows(xs[steep], ys[steep], dy[steep], slope[steep], before[steep])
    down = (low + 0.5) / _SCALE - 0.5
    return np.ceil(np.clip(down, 0, height)).astype(np.int64)


def _steep_rows(
    xs: NDArray[np.int64],
    ys: NDArray[np.int64],
    dy: NDArray[np.int64],
    slope: NDArray[np.float64],
    before: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Step in y, the lower of two, between which a walk along y passes from step ``before`` in x to the next."""
    rising = slope > 0
    # The first step t at which the walk is on the other side; rounded as the walk rounds, so it is tried around here.
    target = np.where(rising, before + 1, before)
    edge = np.where(rising, target - 0.5, target + 0.5)
    guess = np.clip(np.ceil((edge - xs) / slope), 1, dy).astype(np.int64)

    def passed(step: NDArray[np.int64]) -> NDArray[np.bool_]:
        at = _cut(xs + slope * step + 0.5)
        return np.where(rising, at >= target, at <= target)

    for _ in range(3):
        early = passed(guess - 1) & (guess > 1)
        late = ~passed(guess) & (guess < dy)
        guess = guess - early + (late & ~early)
    return ys + guess - 1


def _cut(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """To whole numbers towards zero, as C does."""
    return np.trunc(values).astype(np.int64)
