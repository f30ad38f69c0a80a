"""Small masks for tests: drawn in text, or made up by Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Bitmap = NDArray[np.bool_]

bitmaps = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
"""(H, W) bool."""


def drawn(*rows: str) -> Bitmap:
    """(H, W) bool, "#" for the pixels of the mask."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])
