"""The annotated objects of one image of a COCO file, and which of them an instance is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.data.coco.dataset import CocoDataset
from protomask.errors import DataError
from protomask.explaining.results import TruthMatch
from protomask.structures.coco_json import CocoFile


class Truth(NamedTuple):
    """M annotated objects: (M, H, W) bool masks in the frame of the image, and their class names."""

    masks: NDArray[np.bool_]
    names: Sequence[str]

    def match(self, mask: NDArray[np.bool_]) -> TruthMatch | None:
        """The object with the largest IoU with a mask (H, W); None where nothing overlaps it."""
        shared = (self.masks & mask).sum(axis=(1, 2))
        union = (self.masks | mask).sum(axis=(1, 2))
        ious = shared / np.maximum(union, 1)
        if not ious.any():
            return None
        best = int(ious.argmax())
        return TruthMatch(best, self.names[best], float(ious[best]))


def read_truth(annotations: str | Path, image: Path, image_size: tuple[int, int]) -> Truth:
    """Read the objects of the image of this name; crowds are left out.

    Args:
        annotations: COCO annotation file.
        image: file of the image.
        image_size: (H, W) of its pixels.

    Raises:
        DataError: the file cannot be read, has no image of this name or several, or an annotation cannot be decoded.

    """
    file = CocoFile.read(annotations)
    images = file.content.get("images")
    rows = [row for row in images if isinstance(row, dict)] if isinstance(images, list) else []
    own = [row for row in rows if _base_name(row) == image.name]
    if len(own) != 1:
        raise DataError(f"{file.path}: expected one image named {image.name}, got {len(own)}")
    all_annotations = file.content.get("annotations")
    objects = [
        row
        for row in (all_annotations if isinstance(all_annotations, list) else [])
        if isinstance(row, dict) and row.get("image_id") == own[0].get("id")
    ]
    content = {**file.content, "images": own, "annotations": objects}
    dataset = CocoDataset(CocoFile(file.path, content), image.parent)
    target, _ = dataset.load_target(0, image_size)
    target = target[~target.is_crowd]
    return Truth(target.masks.numpy(), [dataset.class_names[label] for label in target.labels.tolist()])


def _base_name(row: dict[str, object]) -> str:
    return PurePosixPath(str(row.get("file_name")).replace("\\", "/")).name
