"""Ground truth: COCO instance annotations, checked and prepared for matching."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from protomask.errors import DataError

Row = dict[str, Any]

_LISTED_IDS = 5


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Annotations prepared for matching, with ids counted from 1, because both libraries read id 0 as "not matched".

    Attributes:
        source: name of the file, for messages.
        images: image records of the file by image id.
        category_names: by category id.
        annotations: COCO records with ``bbox``, ``area`` and ``iscrowd``; ``segmentation`` is a compressed RLE, or None
            if masks were not asked for.

    """

    source: str
    images: dict[int, Row]
    category_names: dict[int, str]
    annotations: list[Row]

    @classmethod
    def load(cls, ground_truth: TruthSource, *, masks: bool) -> GroundTruth:
        """Read and check annotations.

        Args:
            ground_truth: path of a COCO instance JSON, or its content (not changed); a `GroundTruth` is returned as it
                is.
            masks: whether to prepare the masks.

        Raises:
            DataError: the file cannot be read, or a record lacks a key or has an impossible value.

        """
        if isinstance(ground_truth, GroundTruth):
            if masks and any(annotation["segmentation"] is None for annotation in ground_truth.annotations):
                raise DataError(f"{ground_truth.source}: expected annotations with masks, got some loaded without")
            return ground_truth
        if isinstance(ground_truth, Mapping):
            source, content = "ground truth", ground_truth
        else:
            source, content = str(ground_truth), read_json(ground_truth)
        if not isinstance(content, Mapping):
            raise DataError(f"{source}: expected a COCO object with images, annotations and categories, got a list")
        for key in ("images", "categories"):
            if not isinstance(content.get(key), list):
                raise DataError(f"{source}: expected a list under key '{key}'")
        images = {_id_of(image, f"{source}: images[{i}]"): image for i, image in enumerate(content["images"])}
        names = {
            _id_of(category, f"{source}: categories[{i}]"): str(category.get("name", category["id"]))
            for i, category in enumerate(content["categories"])
        }
        annotations: list[Row] = []
        for position, annotation in enumerate(content.get("annotations", [])):
            where = f"{source}: annotation id {annotation.get('id', f'missing at index {position}')}"
            for key in ("image_id", "category_id"):
                if key not in annotation:
                    raise DataError(f"{where}: key '{key}' is missing")
            # Annotations of images that are not listed are left out, as the official evaluator does.
            if annotation["image_id"] in images and annotation["category_id"] in names:
                prepared = _prepare_truth(annotation, images[annotation["image_id"]], masks=masks, where=where)
                annotations.append({**prepared, "id": len(annotations) + 1})
        return cls(source=source, images=images, category_names=_unique_names(names), annotations=annotations)

    def check_categories(self, category_ids: Sequence[int]) -> None:
        """Check that the file has every category that a model predicts.

        Raises:
            DataError: an id is not in the file.

        """
        unknown = [category for category in category_ids if category not in self.category_names]
        if unknown:
            raise DataError(f"{self.source}: no category with id {listed(unknown)}, which the model predicts")


TruthSource = str | Path | Mapping[str, Any] | GroundTruth
"""Path of a COCO instance JSON, its content, or what was loaded before."""


def _prepare_truth(annotation: Row, image: Row, *, masks: bool, where: str) -> Row:
    from pycocotools import mask as coco_mask

    segmentation = annotation.get("segmentation")
    if masks and segmentation is None:
        raise DataError(f"{where}: key 'segmentation' is missing, which the mask table needs")
    for key in ("bbox", "area"):
        if key not in annotation and segmentation is None:
            raise DataError(f"{where}: key '{key}' is missing")
    rle = None
    if masks or "bbox" not in annotation or "area" not in annotation:
        rle = to_rle(segmentation, image, where)
    bbox = annotation["bbox"] if "bbox" in annotation else coco_mask.toBbox(rle).tolist()
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": checked_box(bbox, where),
        "area": annotation["area"] if "area" in annotation else float(coco_mask.area(rle)),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "segmentation": rle,
    }


def to_rle(segmentation: Any, image: Row, where: str) -> Row:
    """Convert polygons or RLE of either kind to compressed COCO RLE, checked against the size of the image.

    Raises:
        DataError: the segmentation is neither, or does not fit the image; the message begins with ``where``.

    """
    from pycocotools import mask as coco_mask

    size: list[Any] = [image.get("height"), image.get("width")]
    if isinstance(segmentation, list):
        if None in size:
            raise DataError(f"{where}: image id {image['id']} has no height and width, which a polygon mask needs")
        # Fewer than three points enclose nothing, and pycocotools would take four numbers for a box.
        parts = [part for part in segmentation if isinstance(part, list) and len(part) >= 6]
        if not parts:
            return dict(coco_mask.encode(np.zeros((size[0], size[1]), dtype=np.uint8, order="F")))
        return dict(coco_mask.merge(coco_mask.frPyObjects(parts, *size)))
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= segmentation.keys():
        raise DataError(f"{where}: expected polygons or an RLE with 'size' and 'counts', got {segmentation!r:.80}")
    height, width = segmentation["size"]
    if None not in size and [height, width] != size:
        raise DataError(f"{where}: expected an RLE of the image's size {size}, got {[height, width]}")
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        return {"size": [height, width], "counts": counts}
    if sum(counts) != height * width:
        raise DataError(f"{where}: expected RLE counts that add up to {height * width} pixels, got {sum(counts)}")
    return dict(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def checked_box(box: Any, where: str) -> list[float]:
    """The box [x, y, width, height] as floats.

    Raises:
        DataError: the box is not four finite numbers.

    """
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(is_finite, box)):
        raise DataError(f"{where}: expected a box of four finite numbers [x, y, width, height], got {box!r:.80}")
    return [float(value) for value in box]


def is_finite(value: Any) -> bool:
    """Whether the value is a finite number."""
    # float and int first: the check against Real, for NumPy's numbers, is slow.
    return isinstance(value, (float, int, Real)) and math.isfinite(value)


def _id_of(record: Row, where: str) -> int:
    value = record.get("id")
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: expected an integer under key 'id', got {value!r}")
    return value


def _unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Category names by id; the id is appended to a name that several categories share."""
    given = list(names.values())
    return {key: name if given.count(name) == 1 else f"{name} ({key})" for key, name in names.items()}


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: the file cannot be read.

    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def listed(ids: Sequence[Any]) -> str:
    """Text of the first five ids and the number of the others."""
    more = f" and {len(ids) - _LISTED_IDS} more" if len(ids) > _LISTED_IDS else ""
    return ", ".join(map(repr, ids[:_LISTED_IDS])) + more
