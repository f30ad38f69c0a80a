"""Parts of a mask: what hangs together with one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def part_at(mask: NDArray[np.bool_], row: float, column: float) -> NDArray[np.bool_]:
    """The connected part of a mask at a place, or the one nearest to it; neighbours are all eight.

    Args:
        mask: (h, w) bool.
        row: of the place, cells; it may be outside.
        column: likewise.

    Returns:
        (h, w) bool, empty only if the mask is.

    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask.copy()
    nearest = int(((rows - row) ** 2 + (columns - column) ** 2).argmin())
    grown = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), dtype=np.bool_)
    inner = grown[1:-1, 1:-1]
    inner[rows[nearest], columns[nearest]] = True
    count = 0
    while (reached := int(np.count_nonzero(inner))) > count:
        count = reached
        wide = grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]
        inner |= (wide[:-2] | wide[1:-1] | wide[2:]) & mask
    return inner.copy()
