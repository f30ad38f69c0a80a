"""`MaskShape`: how what prototypes say of an object becomes its mask: crop, connected part, edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.options import Crop, Edges
from protomask.masks.fine import REACH
from protomask.masks.grids import GridWindow, assemble_windows
from protomask.masks.parts import part_at
from protomask.structures.fine_masks import FineMasks
from protomask.structures.mask_sources import GridMasks, MaskSource

Floats = NDArray[np.float32]
EDGE_CELLS = 0.5
"""Share of a grid cell beyond the box that belongs to a crop in pixels. (On the grid itself it is a whole cell.)"""


class MaskShape(NamedTuple):
    """How masks are cut out of what the prototypes say of the whole image.

    Attributes:
        crop: "box" cuts at the box, "component" keeps of that only the connected part at the centre of the box, "none"
            cuts nothing.
        margin: the box is widened by this share of its sides on each side before it cuts.
        edges: "grid" enlarges probabilities of the grid, "pixels" evaluates outlines at native resolution.

    """

    crop: Crop = "box"
    margin: float = 0.0
    edges: Edges = "grid"

    def crop_boxes(self, boxes: Floats) -> Floats:
        """The boxes (N, 4), relative to the image, that cut the masks."""
        if self.crop == "none":
            return np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(boxes), 1))
        if self.margin == 0:
            return boxes
        low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
        reach = np.float32(self.margin) * (high - low)
        return np.concatenate([low - reach, high + reach], axis=1)

    def of_prototypes(
        self, prototypes: Floats, coefficients: Floats, boxes: Floats, image_size: tuple[int, int]
    ) -> MaskSource:
        """Masks from (h, w, k) prototypes and (N, k) coefficients in the (N, 4) relative boxes."""
        crops = self.crop_boxes(boxes)
        grid_size = (prototypes.shape[0], prototypes.shape[1])
        if self.edges == "pixels":
            windows = assemble_windows(prototypes, coefficients, crops, padding=1 + REACH, as_logits=True)
            if self.crop == "component":
                windows = central_parts(windows, boxes, grid_size, threshold=0.0)
            return FineMasks(windows, _crops_in_pixels(crops, grid_size, image_size), grid_size, image_size)
        windows = assemble_windows(prototypes, coefficients, crops)
        if self.crop == "component":
            windows = central_parts(windows, boxes, grid_size)
        return GridMasks.of_windows(windows, grid_size, image_size)

    def of_grids(self, mask_probs: Floats, boxes: Floats, image_size: tuple[int, int]) -> MaskSource:
        """Masks from (N, h, w) probabilities that are cropped already."""
        masks = GridMasks(mask_probs, image_size)
        if self.crop != "component":
            return masks
        grid_size = (mask_probs.shape[1], mask_probs.shape[2])
        return GridMasks.of_windows(central_parts(masks.windows, boxes, grid_size), grid_size, image_size)


def central_parts(
    windows: list[GridWindow], boxes: Floats, grid_size: tuple[int, int], *, threshold: float = 0.5
) -> list[GridWindow]:
    """The same masks, each with only the connected part at the centre of its box, or the nearest one.

    Cells of other parts become the mirror image of what they were at the threshold; cells outside of all parts stay, so
    that the outline of what remains does not move.

    Args:
        windows: of N masks.
        boxes: (N, 4) relative to the frame that the grid covers.
        grid_size: (h, w).
        threshold: cells above it belong to a mask.

    """
    height, width = grid_size
    centres = np.nan_to_num((boxes[:, :2] + boxes[:, 2:]) / 2 * np.array([width, height], dtype=np.float32) - 0.5)
    kept = []
    for (top, left, values), (x, y) in zip(windows, centres.tolist(), strict=True):
        inside = values > np.float32(threshold)
        others = inside & ~part_at(inside, y - top, x - left)
        cleared = np.where(others, np.float32(2 * threshold) - values, values)
        kept.append(GridWindow(top, left, cleared))
    return kept


def _crops_in_pixels(crops: Floats, grid_size: tuple[int, int], image_size: tuple[int, int]) -> NDArray[np.int64]:
    sides = np.array([image_size[1], image_size[0]], dtype=np.float64)
    reach = EDGE_CELLS / np.array([grid_size[1], grid_size[0]])
    corners = np.nan_to_num(crops.astype(np.float64))
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    first = np.floor((low - reach) * sides).clip(0, sides)
    last = np.ceil((high + reach) * sides).clip(0, sides)
    return np.concatenate([first, last], axis=1).astype(np.int64)
