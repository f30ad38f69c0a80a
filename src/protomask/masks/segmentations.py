"""Masks as annotation files hold them: outlines along the edges of their pixels, or a run-length code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import Rle, encode_rle, encode_runs
from protomask.masks.runs import mask_runs, move_runs

Segmentation = list[list[float]] | Rle
"""Segmentation as in COCO: polygons [x1, y1, x2, y2, ...] in px, parts of one object, or a run-length code."""
_MAX_EDGES = 1 << 18  # of pixels along the outline of a mask that becomes polygons


def segmentation_of_mask(
    mask: NDArray[np.bool_],
    *,
    corner: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
    tolerance: float = 0.0,
) -> Segmentation:
    """Outlines along pixel edges where they say all, a run-length code where the mask has holes or is very ragged.

    Both give the same pixels when they are read as COCO, unless outlines are simplified.

    Args:
        mask: (h, w) bool, of the whole image or of a part of it.
        corner: (top, left) of the part.
        size: (H, W) of the image where it is a part.
        tolerance: of outlines, px, see `simplified`.

    """
    top, left = corner
    edges = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    if edges <= _MAX_EDGES:
        parts = mask_to_polygons(mask, offset=(left, top))
        if not any(part.holes for part in parts):
            return [simplified(part.exterior, tolerance).astype(float).ravel().tolist() for part in parts]
    if size is None:
        return encode_rle(mask[None])[0]
    runs = move_runs(mask_runs(mask), mask.shape[0], left=left, top=top, frame_height=size[0])
    return encode_runs([runs], size)[0]


def simplified(ring: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    """A ring with fewer vertices (Douglas and Peucker 1973), easier to edit by hand.

    Args:
        ring: (K, 2), px, not closed.
        tolerance: no vertex that is left out lies further than this from the new outline, px; 0 keeps all.

    Returns:
        (K', 2): some of the vertices, in their order; all of them where fewer than four would remain.

    """
    if tolerance <= 0 or len(ring) < 5:
        return ring
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), dtype=np.bool_)
    kept[[0, far, -1]] = True
    spans = [(0, far), (far, len(closed) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    chosen = ring[kept[:-1]]
    return chosen if len(chosen) >= 4 else ring


def _distances(points: NDArray[np.int32], start: NDArray[np.int32], end: NDArray[np.int32]) -> NDArray[np.float64]:
    """Distances of (K, 2) points from the straight line between two others, px."""
    along = (end - start).astype(np.float64)
    share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.asarray(np.hypot(*(points - start - share[:, None] * along).T))


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
