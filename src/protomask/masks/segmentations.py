"""Masks as annotation files hold them: outlines along the edges of their pixels, or a run-length code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import Rle, encode_rle, encode_runs
from protomask.masks.runs import mask_runs, move_runs

Segmentation = list[list[float]] | Rle
"""As COCO has it: polygons [x1, y1, x2, y2, ...] in px, each part of one object, or a run-length code."""
_MAX_EDGES = 1 << 18  # of pixels along the outline of a mask that becomes polygons


def segmentation_of_mask(
    mask: NDArray[np.bool_], *, corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
) -> Segmentation:
    """Outlines along pixel edges where they say all, a run-length code where the mask has holes or is very ragged.

    Both give the same pixels when they are read as COCO.

    Args:
        mask: (h, w) bool, of the whole image or of a part of it.
        corner: (top, left) of the part.
        size: (H, W) of the image where it is a part.

    """
    top, left = corner
    edges = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    if edges <= _MAX_EDGES:
        parts = mask_to_polygons(mask, offset=(left, top))
        if not any(part.holes for part in parts):
            return [part.exterior.astype(float).ravel().tolist() for part in parts]
    if size is None:
        return encode_rle(mask[None])[0]
    runs = move_runs(mask_runs(mask), mask.shape[0], left=left, top=top, frame_height=size[0])
    return encode_runs([runs], size)[0]


def join_rings(rings: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """One closed line through all rings, which encloses by the even-odd rule what they enclose.

    Args:
        rings: each (K, 2), px, not closed.

    Returns:
        (K', 2): every further ring is reached from a near vertex of the line, and left the way it was reached.

    """
    line = rings[0]
    for ring in rings[1:]:
        here = _nearest(line, ring[0])
        there = _nearest(ring, line[here])
        line = np.concatenate([line[: here + 1], np.roll(ring, -there, axis=0), ring[there : there + 1], line[here:]])
    return line


def _nearest(points: NDArray[np.int32], point: NDArray[np.int32]) -> int:
    return int(((points.astype(np.int64) - point) ** 2).sum(axis=1).argmin())
