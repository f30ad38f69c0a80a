"""Masks in pixels from the logits of a grid: outlines are evaluated at native resolution, and only they.

Probabilities level off at 0 and 1, so a straight line between two of them crosses a half too near to the uncertain one.
Logits do not: a linear combination of prototypes can be interpolated before the sigmoid as if the prototypes had been
evaluated at every pixel. Here they are interpolated bicubically (Keys 1981, a = -0.5), which follows curved outlines
between the cells. The weights of a row of pixels do not depend on its column, so two products of matrices do it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protomask.masks.grids import GridWindow, PixelLine
from protomask.masks.runs import Runs, mask_runs, move_runs

REACH = 2
"""Cells beyond a pixel, on each side, that decide about it."""
_FAR = 1e38
"""What stands for an infinite logit."""
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
    # A network that has diverged gives anything, and a product would spread it over the whole mask.
    logits = np.nan_to_num(window.probs.astype(np.float64), posinf=_FAR, neginf=-_FAR)
    down = _interpolation(rows.positions[top:bottom] - window.top, logits.shape[0]) @ logits
    x = columns.positions[left:right] - window.left
    step = max(1, _STRIP // (bottom - top))
    parts = []
    for start in range(0, len(x), step):
        mask = down @ _interpolation(x[start : start + step], logits.shape[1]).T > 0
        parts.append(move_runs(mask_runs(mask), bottom - top, left=left + start, top=top, frame_height=height))
    runs = np.concatenate(parts)
    # Strips may touch where the mask is as high as the frame.
    joined = np.flatnonzero(runs[1:, 0] == runs[:-1, 1])
    return np.stack([np.delete(runs[:, 0], joined + 1), np.delete(runs[:, 1], joined)], axis=1)


def _interpolation(positions: NDArray[np.float32], cells: int) -> NDArray[np.float64]:
    """(P, cells) weights of the cells for P positions; beyond the edge, its cell is repeated."""
    positions = positions.clip(-1, cells)
    before = np.floor(positions).astype(np.int64)
    weights = np.zeros((len(positions), cells))
    line = np.arange(len(positions))
    for place, share in enumerate(_weights(positions - before).T):
        weights[line, (before + place - 1).clip(0, cells - 1)] += share
    return weights


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
