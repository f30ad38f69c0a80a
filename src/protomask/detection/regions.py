"""Two-stage models (Mask R-CNN): from the detections of one image, each with a mask over its box, to instances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.rows import instances_of
from protomask.masks.grids import MaskPaste
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import RegionMasks


class RegionRows(NamedTuple):
    """What was kept in one image.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the image as the network got it, not clipped.
        labels: (N,) int64.
        class_scores: (N,) float32.
        mask_probs: (N, m, m) float32 in [0, 1], each on a grid over its box.
        mask_scores: (N,) float32 estimated IoU, not limited to [0, 1]; None without such a head.
        input_size: (h, w) of the image as the network got it.

    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32]
    mask_probs: NDArray[np.float32]
    mask_scores: NDArray[np.float32] | None
    input_size: tuple[int, int]


def paint(
    rows: RegionRows,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    *,
    paste: MaskPaste,
) -> Instances:
    """What was kept as `Instances` in the frame of the original image (H, W).

    Args:
        rows: of one image.
        image_size: (H, W) of the original image.
        class_names: name of each label.
        paste: how masks become pixels, see `protomask.masks.grids.region_lines`.

    """
    scale = [np.float32(image_size[axis]) / np.float32(rows.input_size[axis]) for axis in (1, 0)]
    boxes = rows.boxes * np.array([*scale, *scale], dtype=np.float32)
    return instances_of(
        boxes=boxes,
        labels=rows.labels,
        class_scores=rows.class_scores,
        mask_scores=rows.mask_scores,
        masks=RegionMasks(rows.mask_probs, boxes, image_size, paste=paste),
        image_size=image_size,
        class_names=class_names,
    )
