"""Content of a COCO instance JSON with one image of 30 x 20 px, and the segmentation of a square in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

SQUARE = [2.0, 3.0, 10.0, 3.0, 10.0, 9.0, 2.0, 9.0]
HEIGHT, WIDTH = 20, 30
IMAGE = {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}


def square_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[3:9, 2:10] = 1
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_codec.encode(np.asfortranarray(mask))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": counts if flat[0] == 0 else [0, *counts]}


def annotation(**changes: Any) -> dict[str, Any]:
    entry = {
        "id": 11,
        "image_id": 7,
        "category_id": 3,
        "segmentation": [SQUARE],
        "bbox": [2.0, 3.0, 8.0, 6.0],
        "area": 48.0,
        "iscrowd": 0,
    } | changes
    return {key: value for key, value in entry.items() if value is not None}


def content(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "images": [IMAGE],
        "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": list(annotations),
    } | changes
