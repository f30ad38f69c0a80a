"""The tables of a model card: AP by size of the input, by size of the objects and by class, as Markdown.

AP50 of large objects, which no COCO table has, is read from pycocotools itself.

example:
  python benchmarks/model_card.py --model everyday --data everyday-ten.yaml --image-sizes 320 384 448
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import protomask
from budget import markdown
from measuring import positive
from protomask.data.coco.layout import open_dataset
from protomask.detection.options import PredictOptions
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import evaluate, open_split
from protomask.evaluation.tables import CocoMetrics


def measure(options: Any, image_size: int | None, folder: Path) -> tuple[CocoMetrics, float | None]:
    """The metrics at one size of the input, and mask AP50 of large objects."""
    predictor = protomask.load(options.model, runtime="torch", device="cpu")
    dataset = open_split(options.data, "val")
    evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=options.max_detections)
    asked = PredictOptions(max_detections=options.max_detections, image_size=image_size)
    metrics = evaluate(predictor, dataset, options=asked, evaluator=evaluator)
    evaluator.save_results(folder / "results.json")
    return metrics, large_ap50(options.data, folder / "results_segm.json", list(dataset.category_ids))


def large_ap50(data: str, results: Path, categories: list[int]) -> float | None:
    """Mean over the classes of mask AP at an IoU of 0.5 of objects over 96 x 96 pixels."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(open_dataset(data).splits["val"].annotations))
        measured = COCOeval(truth, truth.loadRes(str(results)), "segm")
        measured.params.catIds = categories
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][0, :, :, 3, 2]  # IoU 0.5, large, the highest limit of detections
    known = precision[:, (precision > -1).any(axis=0)]
    return float(np.mean(known)) if known.size else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="shipped model, or weights file")
    parser.add_argument("--data", required=True, help="data set, as for protomask eval")
    parser.add_argument("--image-sizes", type=positive, nargs="+", help="sides of the input; its own by default")
    parser.add_argument("--max-detections", type=positive, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = {size: measure(options, size, Path(folder)) for size in options.image_sizes or [None]}
    for size, (metrics, large) in measured.items():
        print(f"## Input {size or 'of the model'}: mask AP50 of large objects {large}\n")
        areas = [
            {
                "": name, "AP": table.AP, "AP50": table.AP50, "AP75": table.AP75,
                "small": table.AP_small, "medium": table.AP_medium, "large": table.AP_large,
            }
            for name, table in metrics.tables.items()
        ]  # fmt: skip
        print(markdown(areas) + "\n")
        columns = [f"{name} {value}" for name in metrics.tables for value in ("AP", "AP50")]
        classes = [
            {"class": name, "objects": objects, **dict(zip(columns, values, strict=True))}
            for name, objects, values in metrics.class_rows()
        ]
        print(markdown(classes) + "\n")


if __name__ == "__main__":
    main()
