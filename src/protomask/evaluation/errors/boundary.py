"""Boundary AP: average precision by the lesser of mask IoU and boundary IoU (Cheng et al. 2021).

Mask IoU of a large object says little about its outline: a band of pixels along it is a small part of the area. The
boundary IoU of two masks is the IoU of their pixels near their own outlines, up to a distance of 2 % of the image's
diagonal (https://arxiv.org/abs/2103.16562, section 4); AP takes the lesser of both (section 5).
"""

from __future__ import annotations

import numpy as np

from protomask.evaluation.errors.matching import THRESHOLDS, Floats, ImageOverlaps, overlaps_of
from protomask.evaluation.truth import Row
from protomask.masks.boundary import boundary_width, mask_boundary
from protomask.masks.rle import encode_runs, rle_to_runs
from protomask.masks.runs import mask_runs, move_runs, runs_to_window


def boundary_ious(overlaps: ImageOverlaps) -> Floats:
    """The lesser of mask IoU and boundary IoU of the masks of one image.

    Boundaries are made only where the mask IoU is high enough to match; below that, AP does not ask.

    Args:
        overlaps: of masks.

    Returns:
        (D, G), of pairs of one class; 0 of others.

    """
    ious = overlaps.class_ious
    matching = ious >= THRESHOLDS[0]
    rows, columns = np.flatnonzero(matching.any(axis=1)).tolist(), np.flatnonzero(matching.any(axis=0)).tolist()
    if rows:
        found = [boundary_of(overlaps.rows[index]) for index in rows]
        true = [boundary_of(overlaps.objects[index]) for index in columns]
        place = np.ix_(rows, columns)
        ious[place] = np.minimum(ious[place], overlaps_of(found, true, "segm"))
    return ious


def boundary_of(row: Row) -> Row:
    """A record whose ``segmentation`` is the boundary of the mask of another record."""
    runs, size = rle_to_runs(row["segmentation"])
    window = mask_boundary(runs_to_window(runs, size[0]), boundary_width(size))
    inside = mask_runs(window.mask)
    moved = move_runs(inside, window.mask.shape[0], left=window.left, top=window.top, frame_height=size[0])
    return {"segmentation": encode_runs([moved], size)[0]}
