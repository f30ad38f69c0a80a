"""Objects and detections made of rectangles, as COCO content and result rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from protomask.masks.rle import encode_rle

CAT, DOG = 5, 3
CATEGORIES = [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}]
Box = tuple[float, float, float, float]


class Scene:
    """One image after another, with objects and with what a model would find.

    Args:
        side: of the square images, pixels.

    """

    def __init__(self, side: int = 100) -> None:
        self.side = side
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.boxes: list[dict[str, Any]] = []
        self.masks: list[dict[str, Any]] = []

    def image(self) -> Scene:
        """Begin another image."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": f"{number}.png", "height": self.side, "width": self.side})
        return self

    def object(self, *rectangles: Box, category: int = CAT, crowd: bool = False) -> Scene:
        """Add an object of rectangles xywh."""
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": len(self.images),
                "category_id": category,
                "iscrowd": int(crowd),
                "segmentation": self.rle(rectangles),
            }
        )
        return self

    def found(self, *rectangles: Box, score: float = 0.9, category: int = CAT, box: Box | None = None) -> Scene:
        """Add a detection of rectangles xywh; its box is that around them by default."""
        rows = {"image_id": len(self.images), "category_id": category, "score": score}
        self.boxes.append({**rows, "bbox": list(around(rectangles) if box is None else box)})
        self.masks.append({**rows, "segmentation": self.rle(rectangles)})
        return self

    def rle(self, rectangles: Sequence[Box]) -> dict[str, Any]:
        """Run-length code of rectangles xywh."""
        mask = np.zeros((1, self.side, self.side), dtype=np.bool_)
        for x, y, w, h in (map(int, one) for one in rectangles):
            mask[0, y : y + h, x : x + w] = True
        return dict(encode_rle(mask)[0])

    @property
    def truth(self) -> dict[str, Any]:
        """COCO content."""
        return {"images": self.images, "categories": CATEGORIES, "annotations": self.annotations}


def around(rectangles: Sequence[Box]) -> Box:
    """The box xywh around rectangles xywh."""
    left, top = min(one[0] for one in rectangles), min(one[1] for one in rectangles)
    right, bottom = max(one[0] + one[2] for one in rectangles), max(one[1] + one[3] for one in rectangles)
    return left, top, right - left, bottom - top
