"""Two-stage models (Mask R-CNN): from the detections of one image, each with a mask over its box, to instances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.mask_shape import central_parts
from protomask.detection.options import PROTOTYPE_OPTIONS, Crop, PredictOptions
from protomask.detection.rows import instances_of
from protomask.errors import ConfigError
from protomask.masks.grids import GridWindow, MaskPaste
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


def settle_crop(options: PredictOptions, model: str) -> Crop:
    """How masks over boxes are cut: as they are, or only the connected part at the centre of the box.

    Args:
        options: options of the prediction.
        model: for messages.

    Raises:
        ConfigError: an option that asks for prototypes.

    """
    own = f"{model}, whose masks are made for each box and end with it"
    options.refuse([name for name in PROTOTYPE_OPTIONS if name != "crop"], own)
    if options.crop == "none":
        raise ConfigError(f"crop: expected box or component with {own}, got none")
    return options.crop or "box"


def paint(
    rows: RegionRows,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    *,
    paste: MaskPaste,
    crop: Crop = "box",
) -> Instances:
    """What was kept as `Instances` in the frame of the original image (H, W).

    Args:
        rows: of one image.
        image_size: (H, W) of the original image.
        class_names: name of each label.
        crop: "component" keeps only the connected part at the centre of the box.
        paste: how masks become pixels, see `protomask.masks.grids.region_lines`.

    """
    scale = [np.float32(image_size[axis]) / np.float32(rows.input_size[axis]) for axis in (1, 0)]
    boxes = rows.boxes * np.array([*scale, *scale], dtype=np.float32)
    mask_probs = rows.mask_probs if crop == "box" else _central(rows.mask_probs)
    return instances_of(
        boxes=boxes,
        labels=rows.labels,
        class_scores=rows.class_scores,
        mask_scores=rows.mask_scores,
        masks=RegionMasks(mask_probs, boxes, image_size, paste=paste),
        image_size=image_size,
        class_names=class_names,
    )


def _central(mask_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, m, m) probabilities of only the connected part at the centre of each box."""
    size = (mask_probs.shape[1], mask_probs.shape[2])
    windows = [GridWindow(0, 0, probs) for probs in mask_probs]
    whole = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(windows), 1))
    parts = [window.probs for window in central_parts(windows, whole, size)]
    return np.stack(parts) if parts else mask_probs
