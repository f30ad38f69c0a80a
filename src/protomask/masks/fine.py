"""Masks in pixels from the logits of a grid: outlines are evaluated at native resolution, and only they.

Probabilities level off at 0 and 1, so a straight line between two of them crosses a half too near to the uncertain one.
Logits do not: a linear combination of prototypes can be interpolated before the sigmoid as if the prototypes had been
evaluated at every pixel. Here they are interpolated bicubically (Keys 1981, a = -0.5), which follows curved outlines
between the cells. Only the squares between cells in which the sign can change are looked at, a few pixels at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protomask.masks.grids import GridWindow, PixelLine
from protomask.masks.runs import Runs, mask_runs, move_runs

REACH = 2
"""Cells beyond a pixel, on each side, that decide about it."""
_PIXELS_AT_ONCE = 1 << 16
"""Evaluated together."""
_STRIP = 1 << 20
"""Pixels of a mask that are held as an array at a time."""


def fine_runs(
    window: GridWindow, rows: PixelLine, columns: PixelLine, crop: tuple[int, int, int, int], height: int
) -> Runs:
    """The pixels of a frame whose interpolated logit is above zero.

    Args:
        window: logits of the mask; beyond it they are those of its edge.
        rows: where the pixel rows of the frame lie on the grid.
        columns: where its pixel columns lie.
        crop: left, top, right and bottom of the pixels that may belong to the mask, right and bottom excluded.
        height: of the frame, pixels.

    Returns:
        Runs in the frame.

    """
    left, top, right, bottom = crop
    if right <= left or bottom <= top or window.probs.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    logits = np.pad(window.probs, REACH, mode="edge").astype(np.float64)
    y = np.clip(rows.positions[top:bottom] - window.top, -1, window.probs.shape[0]) + REACH
    x = np.clip(columns.positions[left:right] - window.left, -1, window.probs.shape[1]) + REACH
    states = _states(logits)
    step = max(1, _STRIP // (bottom - top))
    parts = []
    for start in range(0, len(x), step):
        mask = _strip(logits, states, y, x[start : start + step])
        parts.append(move_runs(mask_runs(mask), bottom - top, left=left + start, top=top, frame_height=height))
    runs = np.concatenate(parts)
    # Strips may touch where the mask is as high as the frame.
    joined = np.flatnonzero(runs[1:, 0] == runs[:-1, 1])
    return np.stack([np.delete(runs[:, 0], joined + 1), np.delete(runs[:, 1], joined)], axis=1)


def _states(logits: NDArray[np.float64]) -> NDArray[np.int8]:
    """State of each square between four cells: 1 if all cells that decide are above zero, 0 if none is, else -1."""
    low, high = logits, logits
    for axis in (0, 1):
        shifted = [np.roll(low, -shift, axis=axis) for shift in (-1, 0, 1, 2)]
        low = np.minimum.reduce(shifted)
        high = np.maximum.reduce([np.roll(high, -shift, axis=axis) for shift in (-1, 0, 1, 2)])
    return np.where(low > 0, 1, np.where(high > 0, -1, 0)).astype(np.int8)


def _strip(
    logits: NDArray[np.float64], states: NDArray[np.int8], y: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(len(y), len(x)) bool mask."""
    cell_y, cell_x = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    state = states[cell_y[:, None], cell_x]
    mask = state > 0
    open_y, open_x = np.nonzero(state < 0)
    weights_y, weights_x = _weights(y - cell_y), _weights(x - cell_x)
    for start in range(0, len(open_y), _PIXELS_AT_ONCE):
        at_y, at_x = open_y[start : start + _PIXELS_AT_ONCE], open_x[start : start + _PIXELS_AT_ONCE]
        value = np.zeros(len(at_y))
        for down in range(4):
            line = np.zeros(len(at_y))
            for across in range(4):
                line += weights_x[at_x, across] * logits[cell_y[at_y] + down - 1, cell_x[at_x] + across - 1]
            value += weights_y[at_y, down] * line
        mask[at_y, at_x] = value > 0
    return mask


def _weights(share: NDArray[np.floating]) -> NDArray[np.float64]:
    """(P, 4) weights of the cells before, at, after and one further, for positions between two cells."""
    t = share.astype(np.float64)
    return np.stack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        axis=1,
    )
