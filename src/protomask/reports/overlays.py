"""Pictures of a data set with its objects, or with what was found, drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.segmentation import same_aspect
from protomask.inference.draw import draw_instances
from protomask.ops.masks import box_of_masks, decode_rle
from protomask.structures.instances import Instances, Target

ColorBy = Literal["auto", "class", "instance"]


def load_picture(dataset: CocoDataset, index: int, side: int) -> Image.Image:
    """The image with its long side made ``side`` pixels long, for lines and letters have their size in the picture.

    Where file and JSON disagree it is their frames that matter, and the image is left as it is.

    Raises:
        DataError: the image cannot be read.

    """
    pixels = dataset.load_image(index)
    height, width = pixels.shape[1:]
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    if not same_aspect(dataset.image_size(index), (height, width)):
        return picture
    scale = side / max(height, width)
    return picture.resize((max(1, round(width * scale)), max(1, round(height * scale))))


def draw_truth(
    dataset: CocoDataset, index: int, picture: Image.Image, *, color_by: ColorBy = "auto"
) -> tuple[Image.Image, Target]:
    """A picture of `load_picture` with the annotated objects drawn on it, and these in its frame.

    Raises:
        DataError: an annotation cannot be decoded.

    """
    target, _ = dataset.load_target(index, (picture.height, picture.width))
    truth = Instances(
        boxes=target.boxes,
        labels=target.labels,
        class_scores=torch.ones(len(target)),
        masks=target.masks,
        image_size=target.image_size,
        class_names=dataset.class_names,
    )
    return _draw(picture, truth, color_by, scores=False), target


def draw_found(dataset: CocoDataset, picture: Image.Image, rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A picture of `load_picture` with COCO result rows that have masks drawn on it, which are scaled to its size."""
    size = (picture.width, picture.height)
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
    # What is too thin for a pixel of the picture has no place in it.
    return _draw(picture, found[dense.flatten(1).any(dim=1)], "auto", scores=True)


def _draw(picture: Image.Image, instances: Instances, color_by: ColorBy, *, scores: bool) -> Image.Image:
    several = len(instances.class_names) > 1  # the same word on every object would only hide it
    drawn = draw_instances(picture, instances, labels=several, scores=scores, color_by=color_by)
    return Image.fromarray(drawn)
