"""How long COCO AP takes: faster-coco-eval against pycocotools on dense images, and that both give the same numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from measuring import argument_parser, milliseconds, report
from protomask.evaluation.coco import evaluate_coco
from protomask.evaluation.match import Backend
from protomask.evaluation.tables import CocoMetrics
from protomask.masks.rle import encode_rle, rle_area
from scenes import ellipse_masks, random_boxes

SIZE = 512


def dense_dataset(images: int, objects: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth of one class, and predictions: the same ellipses, shifted a little, twice as many."""
    truth: dict[str, Any] = {
        "images": [{"id": number + 1, "file_name": "", "height": SIZE, "width": SIZE} for number in range(images)],
        "annotations": [],
        "categories": [{"id": 1, "name": "cell"}],
    }
    predictions = []
    for number in range(images):
        rng = np.random.default_rng(number)
        boxes = random_boxes(objects, SIZE, SIZE, seed=number)
        for box, rle in zip(boxes.tolist(), encode_rle(ellipse_masks(boxes, SIZE, SIZE)), strict=True):
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0,
                    "bbox": _xywh(box), "segmentation": rle, "area": rle_area(rle),
                }
            )  # fmt: skip
        moved = np.tile(boxes, (2, 1)) + rng.normal(0, 2, (2 * objects, 4)).astype(np.float32)
        for box, rle in zip(moved.tolist(), encode_rle(ellipse_masks(moved, SIZE, SIZE)), strict=True):
            score = float(rng.uniform())
            predictions.append(
                {"image_id": number + 1, "category_id": 1, "bbox": _xywh(box), "segmentation": rle, "score": score}
            )
    return truth, predictions


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--objects", type=int, default=60, help="per image")
    options = parser.parse_args()
    truth, predictions = dense_dataset(options.images, options.objects)

    def evaluated(backend: Backend) -> CocoMetrics:
        return evaluate_coco(truth, predictions, max_detections=(1, 10, 400), backend=backend)

    backends: tuple[Backend, ...] = ("fast", "pycocotools")
    times = milliseconds({backend: partial(evaluated, backend) for backend in backends}, rounds=options.rounds)
    fast, slow = evaluated("fast").to_dict(), evaluated("pycocotools").to_dict()
    row = {
        "images": options.images,
        "objects": len(truth["annotations"]),
        "predictions": len(predictions),
        "faster-coco-eval ms": times["fast"],
        "pycocotools ms": times["pycocotools"],
        "ratio": times["pycocotools"] / times["fast"],
        "all numbers equal": fast == slow,
    }
    report("COCO AP of boxes and masks, at most 400 detections", [row], json_file=options.json)


if __name__ == "__main__":
    main()
