"""COCO annotations and results drawn at random, and what the official evaluator says of them."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from protomask.evaluation.tables import CocoMetrics

BACKENDS = ("fast", "pycocotools")
SUMMARY = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_max", "AR_small", "AR_medium",
    "AR_large",
)  # fmt: skip
HEIGHT, WIDTH = 120, 150


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_mask(rng: np.random.Generator, largest: int = 110) -> np.ndarray:
    cy, cx = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
    ry, rx = rng.uniform(2, largest / 2, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    mask[int(np.clip(cy, 0, HEIGHT - 1)), int(np.clip(cx, 0, WIDTH - 1))] = True
    return np.asarray(mask)


def annotation(number: int, image_id: int, category_id: int, mask: np.ndarray, **other: Any) -> dict[str, Any]:
    rle = encode(mask)
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "segmentation": rle, "iscrowd": 0,
        "bbox": coco_mask.toBbox(rle).tolist(), "area": float(coco_mask.area(rle)), **other,
    }  # fmt: skip


def random_truth(rng: np.random.Generator, num_images: int = 4, objects: int = 6) -> dict[str, Any]:
    """Polygons, both kinds of RLE, crowds, an image without objects and a category without objects."""
    annotations: list[dict[str, Any]] = []
    for image_id in range(10, 10 + num_images - 1):
        for _ in range(objects):
            one = annotation(len(annotations) + 1, image_id, int(rng.choice([2, 5, 7])), random_mask(rng))
            kind = rng.integers(4)
            if kind == 0:
                x, y, w, h = one["bbox"]
                one["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h], [x, y + h, x + w, y + h, x + w / 2, y]]
                one["area"] = w * h * 0.6
            elif kind == 1:
                flat = coco_mask.decode(one["segmentation"]).flatten(order="F")
                changes = np.flatnonzero(np.diff(flat)) + 1
                runs = np.diff([0, *changes, flat.size]).tolist()
                one["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [0, *runs] if flat[0] else runs}
            elif kind == 2:
                one["iscrowd"] = int(rng.random() < 0.6)
            annotations.append(one)
    return {
        "images": [{"id": 10 + i, "height": HEIGHT, "width": WIDTH} for i in range(num_images)],
        "categories": [{"id": i, "name": name} for i, name in ((7, "c"), (2, "a"), (5, "b"), (9, "unused"))],
        "annotations": annotations,
    }


def random_results(
    rng: np.random.Generator, truth: dict[str, Any], extra: int = 8, copies: int = 2
) -> list[dict[str, Any]]:
    """Shifted copies of the objects, and false positives; scores on a coarse grid, so that there are ties."""
    rows = []
    heights = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = [category["id"] for category in truth["categories"]]
    for one in truth["annotations"] * copies:
        size = heights[one["image_id"]]
        segmentation = one["segmentation"]
        if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *size)
        merged = coco_mask.merge(segmentation) if isinstance(segmentation, list) else segmentation
        shifted = np.roll(coco_mask.decode(merged), tuple(rng.integers(-6, 7, 2)), (0, 1))
        category = one["category_id"] if rng.random() < 0.8 else int(rng.choice(categories))
        rows.append((one["image_id"], category, shifted))
    for image in truth["images"]:
        mask = np.zeros((image["height"], image["width"]), dtype=bool)
        for _ in range(extra):
            y, x, h, w = rng.integers(1, 100, 4)
            noise = mask.copy()
            noise[y : y + h, x : x + w] = True
            rows.append((image["id"], int(rng.choice(categories)), noise))
    results = []
    for image_id, category_id, mask in rows:
        rle = encode(mask)
        box = (coco_mask.toBbox(rle) + rng.normal(0, 0.5, 4)).tolist()
        score = round(float(rng.random()), 2)
        results.append(
            {"image_id": image_id, "category_id": category_id, "bbox": box, "segmentation": rle, "score": score}
        )
    return results


def official(truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str, limits: Sequence[int]) -> COCOeval:
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), iou_type)
        evaluator.params.maxDets = list(limits)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def truth_as_results(truth: dict[str, Any]) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{**{key: one[key] for key in keys}, "score": 0.9} for one in truth["annotations"] if not one["iscrowd"]]


def recall(metrics: CocoMetrics) -> float:
    """Of masks, with as many detections as count."""
    value = metrics.tables["mask"].AR_max
    assert value is not None
    return value


def values(table: Any) -> list[float]:
    return [-1 if getattr(table, name) is None else getattr(table, name) for name in SUMMARY]


@dataclass
class StubInstances:
    """What the evaluator uses of Instances."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    image_size: tuple[int, int] = (HEIGHT, WIDTH)

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        return [{**row, "image_id": image_id} for row in self.rows]
