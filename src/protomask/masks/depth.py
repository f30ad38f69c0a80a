"""How deep each pixel lies in a mask: the exact Euclidean distance transform."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def depths(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each pixel of a mask from the nearest pixel outside of it; 0 outside.

    Everything beyond the array is outside. First along the columns, then the least over the rows (Felzenszwalb and
    Huttenlocher 2012), of which only those nearer than the distance found so far are looked at.

    Args:
        mask: (h, w) bool.

    Returns:
        (h, w) float32, pixels.

    """
    height, width = mask.shape
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.float32)
    rows = np.arange(height, dtype=np.int64)[:, None]
    above = np.maximum.accumulate(np.where(mask, -1, rows), axis=0)
    below = np.minimum.accumulate(np.where(mask, height, rows)[::-1], axis=0)[::-1]
    squares = np.minimum(rows - above, below - rows) ** 2
    padded = np.zeros((height, width + 2), dtype=np.int64)
    padded[:, 1:-1] = squares
    nearest = padded.copy()
    offset = 1
    while offset <= width and offset**2 < nearest.max():
        nearest[:, offset:] = np.minimum(nearest[:, offset:], padded[:, :-offset] + offset**2)
        nearest[:, :-offset] = np.minimum(nearest[:, :-offset], padded[:, offset:] + offset**2)
        offset += 1
    return np.sqrt(nearest[:, 1:-1]).astype(np.float32)
