"""Images of a data set with their objects, or with what was found, drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from protomask.data.coco import CocoDataset, same_aspect
from protomask.inference.draw import draw_instances
from protomask.ops.masks import box_of_masks, decode_rle
from protomask.structures.instances import Instances, Target

ColorBy = Literal["auto", "class", "instance"]


def load_scaled(dataset: CocoDataset, index: int, side: int) -> Image.Image:
    """The image with its long side made ``side`` pixels long, so that lines and letters have the same size in all.

    An image whose aspect ratio is not that of its JSON keeps its size: there the frames of the file matter.

    Raises:
        DataError: the image cannot be read.

    """
    pixels = dataset.load_image(index)
    height, width = pixels.shape[1:]
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
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
    truth = Instances(
        boxes=target.boxes,
        labels=target.labels,
        class_scores=torch.ones(len(target)),
        masks=target.masks,
        image_size=target.image_size,
        class_names=dataset.class_names,
    )
    return _draw(image, truth, color_by, scores=False), target


def draw_found(dataset: CocoDataset, image: Image.Image, rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """COCO result rows with masks, which are scaled to its size, drawn on an image of `load_scaled`."""
    size = (image.width, image.height)
    dense = torch.zeros(len(rows), size[1], size[0], dtype=torch.bool)
    for mask, row in zip(dense, rows, strict=True):
        scaled = Image.fromarray(decode_rle(row["segmentation"]).numpy()).resize(size, Image.Resampling.NEAREST)
        mask.copy_(torch.from_numpy(np.array(scaled)))
    found = Instances(
        boxes=box_of_masks(dense),
        labels=torch.tensor([dataset.category_ids.index(row["category_id"]) for row in rows], dtype=torch.int64),
        class_scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
        masks=dense,
        image_size=size[::-1],
        class_names=dataset.class_names,
    )
    # A mask too thin for a single pixel of the scaled image cannot be drawn.
    return _draw(image, found[dense.flatten(1).any(dim=1)], "auto", scores=True)


def _draw(image: Image.Image, instances: Instances, color_by: ColorBy, *, scores: bool) -> Image.Image:
    several = len(instances.class_names) > 1  # the same word on every object would only hide it
    drawn = draw_instances(image, instances, labels=several, scores=scores, color_by=color_by)
    return Image.fromarray(drawn)
