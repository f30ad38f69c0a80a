"""Masks in the words of annotation files: COCO's entries, LabelMe's shapes, YOLO's lines."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.masks.polygons import mask_to_polygons
from protomask.masks.runs import MaskWindow
from protomask.masks.segmentations import join_rings, segmentation_of_mask, simplified

LABELME_VERSION = "5.5.0"
YOLO_DIGITS = 8  # of shares: 0.00005 px of an image 10,000 px wide


def coco_entry(window: MaskWindow, size: tuple[int, int], tolerance: float = 0.0) -> dict[str, Any]:
    """Describe a mask as a COCO annotation does: ``segmentation``, ``bbox``, ``area``, ``iscrowd``.

    Args:
        window: window of the mask, not empty.
        size: (H, W) of the image.
        tolerance: tolerance of outlines, px, see `protomask.masks.segmentations.simplified`.

    """
    top, left, mask = window
    height, width = mask.shape
    return {
        "segmentation": segmentation_of_mask(mask, corner=(top, left), size=size, tolerance=tolerance),
        "bbox": [left, top, width, height],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }


def labelme_shapes(window: MaskWindow, tolerance: float = 0.0) -> list[dict[str, Any]]:
    """Describe a mask in LabelMe's shapes: a polygon for each part, or one of type ``mask`` if there are holes.

    Args:
        window: window of the mask, not empty.
        tolerance: tolerance of polygons, px, see `protomask.masks.segmentations.simplified`.

    """
    top, left, mask = window
    size = (top + mask.shape[0], left + mask.shape[1])
    outlines = segmentation_of_mask(mask, corner=(top, left), size=size, tolerance=tolerance)
    return labelme_polygons(outlines) if isinstance(outlines, list) else [labelme_mask(window)]


def labelme_polygons(outlines: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A shape for each outline [x1, y1, x2, y2, ...], px."""
    return [
        {"shape_type": "polygon", "points": np.reshape(outline, (-1, 2)).tolist(), "mask": None} for outline in outlines
    ]


def labelme_mask(window: MaskWindow) -> dict[str, Any]:
    """A shape of type ``mask``, exact to the pixel."""
    top, left, mask = window
    height, width = mask.shape
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return {
        "shape_type": "mask",
        # LabelMe counts the last pixel in.
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
    }


def labelme_file(image_name: str, size: tuple[int, int], shapes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of the JSON beside an image.

    Args:
        image_name: name of the image file.
        size: (H, W) of the image.
        shapes: each with a ``label``, ``group_id``, ``flags`` and ``description`` of its own.

    """
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def yolo_outline(window: MaskWindow, size: tuple[int, int], tolerance: float = 0.0) -> str:
    """The numbers of a YOLO-seg line: one outline in shares of the image.

    A mask with holes or parts becomes one outline that goes to each ring and back the same way; by the even-odd rule it
    encloses exactly the mask.

    Args:
        window: window of the mask, not empty.
        size: (H, W) of the image.
        tolerance: tolerance of an outline without holes or further parts, px, see
            `protomask.masks.segmentations.simplified`.

    """
    top, left, mask = window
    parts = mask_to_polygons(mask, offset=(left, top))
    rings = [ring for part in parts for ring in (part.exterior, *part.holes)]
    return yolo_shares(simplified(rings[0], tolerance) if len(rings) == 1 else join_rings(rings), size)


def yolo_shares(points: NDArray[Any], size: tuple[int, int]) -> str:
    """Points (K, 2), px, as shares of an image (H, W)."""
    shares = points / (size[1], size[0])
    return " ".join(f"{value:.{YOLO_DIGITS}f}".rstrip("0").rstrip(".") for value in shares.ravel().tolist())
