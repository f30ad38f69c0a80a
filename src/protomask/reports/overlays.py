"""Images of a data set with their objects, or with what was found, drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.segmentation import same_aspect
from protomask.files import replacing
from protomask.masks.rle import decode_rle
from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances
from protomask.structures.overlays import ColorBy
from protomask.structures.target import Target


def load_scaled(dataset: CocoDataset, index: int, side: int) -> Image.Image:
    """The image with its long side made ``side`` pixels long, so that lines and letters have the same size in all.

    An image whose aspect ratio is not that of its JSON keeps its size: there the frames of the file matter.

    Raises:
        DataError: the image cannot be read.

    """
    pixels = dataset.load_pixels(index)
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    if not same_aspect(dataset.image_size(index), (height, width)):
        return image
    scale = side / max(height, width)
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))))


def draw_truth(
    dataset: CocoDataset, index: int, image: Image.Image, *, color_by: ColorBy = "auto"
) -> tuple[Image.Image, Target]:
    """The annotated objects drawn on an image of `load_scaled`, and these objects in its frame.

    Raises:
        DataError: an annotation cannot be decoded.

    """
    target, _ = dataset.load_target(index, (image.height, image.width))
    names = dataset.class_names if len(dataset.class_names) > 1 else None  # one word on every object would hide it
    by = color_by if color_by != "auto" else "class" if names is not None else "instance"
    return Image.fromarray(target.draw(image, class_names=names, color_by=by)), target


def draw_found(dataset: CocoDataset, image: Image.Image, rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A image of `load_scaled` with COCO result rows that have masks drawn on it, which are scaled to its size."""
    size = (image.width, image.height)
    dense = np.zeros((len(rows), size[1], size[0]), dtype=np.bool_)
    for mask, row in zip(dense, rows, strict=True):
        scaled = Image.fromarray(decode_rle(row["segmentation"])).resize(size, Image.Resampling.NEAREST)
        mask[:] = np.array(scaled)
    found = Instances(
        boxes=boxes_of_masks(dense),
        labels=np.array([dataset.category_ids.index(row["category_id"]) for row in rows], dtype=np.int64),
        class_scores=np.array([row["score"] for row in rows], dtype=np.float32),
        masks=dense,
        image_size=size[::-1],
        class_names=dataset.class_names,
    )
    # What is too thin for a pixel of the image has no place in it.
    seen = found[dense.any(axis=(1, 2))]
    return Image.fromarray(seen.draw(image, labels=len(found.class_names) > 1))


def save_overlays(drawn: Mapping[str, Image.Image], folder: Path, start: str) -> dict[str, str]:
    """Write JPEG files ``START_NAME.jpg`` of images by name; returns the names of the files.

    Raises:
        ProtomaskError: a file cannot be written.

    """
    files = {name: f"{start}_{name}.jpg" for name in drawn}
    for name, overlay in drawn.items():
        with replacing(folder / files[name]) as file:
            overlay.save(file, format="JPEG", quality=88)
    return files
