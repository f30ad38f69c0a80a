"""What was found, as the regions of a Label Studio prediction."""

from __future__ import annotations

from typing import Any

import numpy as np

from protomask.masks.brush import encode_brush
from protomask.masks.polygons import mask_to_polygons
from protomask.masks.runs import MaskWindow
from protomask.masks.segmentations import join_rings, simplified
from protomask.serve.label_config import Control
from protomask.structures.instances import Instances

TOLERANCE = 1.0
"""Pixels by which polygons may be off, so that they have few vertices to correct."""
_DIGITS = 4  # of percent: a hundredth of a pixel of an image 10,000 pixels wide


def as_prediction(found: Instances, control: Control) -> dict[str, Any]:
    """The regions of one image, best first, without their model version.

    Args:
        found: in the image.
        control: the tag that the regions belong to; classes without a label are left out.

    Returns:
        ``result``, and ``score``: the lowest of its regions, since Label Studio shows first what is least sure; 0 where
        there is none.

    """
    height, width = found.image_size
    result: list[dict[str, Any]] = []
    for number, (one, window) in enumerate(zip(found, found.windows(), strict=True)):
        label = control.labels.get(one.name)
        if label is None or not window.mask.size:
            continue
        result.append({
            "id": f"protomask-{number}",
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": control.kind,
            "origin": "prediction",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": one.score,
            "value": {**_value(window, one.box.tolist(), found.image_size, control), control.kind: [label]},
        })  # fmt: skip
    return {"result": result, "score": min((region["score"] for region in result), default=0.0)}


def _value(window: MaskWindow, box: list[float], size: tuple[int, int], control: Control) -> dict[str, Any]:
    if control.shape == "brush":
        return {"format": "rle", "rle": encode_brush(window, size)}
    if control.shape == "polygon":
        return {"points": _points(window, size), "closed": True}
    x1, y1, x2, y2 = np.clip(np.array(box) * 100 / np.array([size[1], size[0]] * 2), 0, 100).tolist()
    return {
        "x": round(x1, _DIGITS),
        "y": round(y1, _DIGITS),
        "width": round(x2 - x1, _DIGITS),
        "height": round(y2 - y1, _DIGITS),
        "rotation": 0,
    }


def _points(window: MaskWindow, size: tuple[int, int]) -> list[list[float]]:
    """One outline in percent; it goes to further parts and to holes, and back the same way."""
    parts = mask_to_polygons(window.mask, offset=(window.left, window.top))
    rings = [simplified(ring, TOLERANCE) for part in parts for ring in (part.exterior, *part.holes)]
    shares = join_rings(rings) * 100 / (size[1], size[0])
    points: list[list[float]] = shares.round(_DIGITS).tolist()
    return points
