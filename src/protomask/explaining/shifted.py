"""A data set whose images are moved to the right and down, with their objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.data.coco.dataset import CocoDataset
from protomask.images.decode import Pixels
from protomask.images.write import write_image
from protomask.masks.rle import encode_rle
from protomask.masks.runs import boxes_of_masks

LEAST_AREA = 25
"""Objects with fewer pixels left in the image are left out."""


def shift_pixels(pixels: Pixels, share: float) -> Pixels:
    """The image moved by a share of its sides; what comes in from outside has its mean colour."""
    down, right = (round(side * share) for side in pixels.shape[:2])
    moved = np.empty_like(pixels)
    moved[:] = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    moved[down:, right:] = pixels[: pixels.shape[0] - down, : pixels.shape[1] - right]
    return moved


def shift_masks(masks: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """(N, H, W) masks moved in the same way."""
    down, right = (round(side * share) for side in masks.shape[1:])
    moved = np.zeros_like(masks)
    moved[:, down:, right:] = masks[:, : masks.shape[1] - down, : masks.shape[2] - right]
    return moved


def shifted_dataset(dataset: CocoDataset, share: float, folder: Path) -> CocoDataset:
    """Write the images and objects of a data set into a folder, moved by a share of the sides of each image."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, image_id in enumerate(dataset.image_ids):
        pixels = dataset.load_pixels(index)
        size = (pixels.shape[0], pixels.shape[1])
        target, _ = dataset.load_target(index, size)
        masks = shift_masks(target.masks.numpy(), share)
        name = f"{image_id}.png"
        write_image(folder / name, shift_pixels(pixels, share))
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        rows = zip(masks, encode_rle(masks), boxes_of_masks(masks), target.labels, target.is_crowd, strict=True)
        for mask, code, (x1, y1, x2, y2), label, is_crowd in rows:
            area = int(mask.sum())
            if area >= LEAST_AREA:
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": image_id, "area": area, "segmentation": code,
                        "category_id": dataset.category_ids[int(label)], "iscrowd": int(is_crowd),
                        "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                    }
                )  # fmt: skip
    categories = [
        {"id": number, "name": name} for number, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return CocoDataset(file, folder, class_names=dataset.class_names)
