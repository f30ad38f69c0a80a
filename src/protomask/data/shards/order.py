"""A pass over all images in random order, in which neighbours lie in few groups of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 1024
"""Images that are shuffled among each other; those of smaller sets all are."""


def streamed_order(
    random: np.random.Generator, groups: NDArray[np.int64], *, window: int = WINDOW
) -> NDArray[np.int64]:
    """Shuffle the groups, and in windows of their images the images.

    Args:
        random: decides; a set of no more than ``window`` images gets its plain permutation.
        groups: (N,) group of each image.
        window: images that are shuffled among each other.

    Returns:
        (N,) every number below N once.

    """
    if len(groups) <= window:
        return random.permutation(len(groups))
    names, member_of = np.unique(groups, return_inverse=True)
    order = np.argsort(random.permutation(len(names))[member_of], kind="stable")
    for start in range(0, len(order), window):
        order[start : start + window] = random.permutation(order[start : start + window])
    return order
