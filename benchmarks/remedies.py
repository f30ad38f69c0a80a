"""What each remedy of prediction gains: AP, AP75, boundary AP, duplicates, faults of masks, and time.

The network runs once for each image; what comes after it is done again for each setting. The time is the processor's,
of preparing the image and of everything between the output of the network and the run-length codes of all masks. The
model must be an exported file of candidates, as the shipped ones are.
"""

from __future__ import annotations

import warnings
from importlib.resources import files
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measuring import argument_parser, positive, report
from protomask.detection.options import PredictOptions
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.evaluate import check_classes, open_split
from protomask.evaluation.truth import GroundTruth
from protomask.runtimes.exported import Outputs
from protomask.runtimes.onnx import OnnxPredictor
from protomask.runtimes.shipped import SHIPPED

EVERYTHING = "as shipped"
"""The others are compared with this one; those with a ``score_threshold`` with the one that has only that."""
REMEDIES: dict[str, dict[str, Any]] = {
    EVERYTHING: {},
    "duplicates=drop": {"duplicates": "drop"},
    "nms=batched": {"nms": "batched"},
    "overlap=mask_iou": {"overlap": "mask_iou"},
    "overlap=mask_iou nms=batched": {"overlap": "mask_iou", "nms": "batched"},
    "overlap=mask_iou duplicates=drop": {"overlap": "mask_iou", "duplicates": "drop"},
    "overlap=mask_smaller iou_threshold=0.7": {"overlap": "mask_smaller", "iou_threshold": 0.7},
    "overlap=mask_iou nms=soft_linear": {"overlap": "mask_iou", "nms": "soft_linear"},
    "crop=component": {"crop": "component"},
    "crop_margin=0.1": {"crop_margin": 0.1},
    "crop=component crop_margin=0.1": {"crop": "component", "crop_margin": 0.1},
    "crop=none": {"crop": "none"},
    "edges=grid": {"edges": "grid"},
    "edges=pixels": {"edges": "pixels"},
    "edges=pixels crop=component": {"edges": "pixels", "crop": "component"},
    "score_threshold=0.3": {"score_threshold": 0.3},
    "score_threshold=0.3 exclusive=score": {"score_threshold": 0.3, "exclusive": "score"},
    "score_threshold=0.3 exclusive=depth": {"score_threshold": 0.3, "exclusive": "depth"},
}
FAULTS = ("merged", "cut by the box", "leakage", "boundary only")


class Remembering(OnnxPredictor):
    """Runs the network once for images that come again."""

    _known: tuple[NDArray[np.uint8], Outputs] | None = None

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        if self._known is None or not np.array_equal(self._known[0], images):
            self._known = images, super().run(images)
        return self._known[1]


def main() -> None:
    parser = argument_parser(__doc__ or "", rounds=1)
    parser.add_argument("--data", default="shapes", help="COCO folder with a val split")
    parser.add_argument("--model", default="yolact_nano", help="shipped model, or .onnx file in the form candidates")
    parser.add_argument("--images", type=positive, default=100, help="number of images")
    parser.add_argument("--skip", type=int, default=0, help="images of the split to leave out first")
    parser.add_argument("--max-detections", type=positive, default=100, help="per image")
    parser.add_argument("--remedies", nargs="+", choices=list(REMEDIES), default=list(REMEDIES), metavar="NAME")
    given = parser.parse_args()
    path = Path(str(files("protomask"))) / "weights" / SHIPPED[given.model] if given.model in SHIPPED else given.model
    predictor = Remembering(path, source=given.model, threads=given.threads)
    dataset = open_split(given.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that only the model has
        check_classes(predictor.class_names, dataset)
    truth = GroundTruth.load(dataset, masks=True)
    limit = given.max_detections
    evaluators = {
        name: CocoEvaluator(truth, category_ids=dataset.category_ids, max_detections=limit) for name in given.remedies
    }
    seconds = dict.fromkeys(given.remedies, 0.0)
    chosen = range(given.skip, min(given.skip + given.images, len(dataset)))
    for index in chosen:
        pixels = dataset.load_pixels(index)
        predictor.predict_images([pixels])  # the network, untimed
        for name in given.remedies:
            options = PredictOptions(**{"score_threshold": 0.0, "max_detections": limit, **REMEDIES[name]})
            started = process_time()
            [found] = predictor.predict_images([pixels], options)
            found.runs()
            seconds[name] += process_time() - started
            evaluators[name].update(dataset.image_ids[index], found.of_classes(dataset.class_names))
    rows = [_row(name, evaluators[name], seconds[name] / len(chosen), limit) for name in given.remedies]
    report(f"{given.model} on {len(chosen)} images of {given.data}", rows, json_file=given.json)


def _row(name: str, evaluator: CocoEvaluator, seconds: float, limit: int) -> dict[str, Any]:
    table = evaluator.evaluate(seen_only=True).tables["mask"]
    errors = measure_errors(evaluator.truth, evaluator.results, max_detections=limit, image_ids=evaluator.image_ids)
    assert errors.mask is not None
    assert errors.boundary is not None
    assert errors.faults is not None
    duplicates = errors.mask.types["duplicate"].count / len(evaluator.image_ids)
    return {
        "setting": name,
        "AP": _share(table.AP),
        "AP75": _share(table.AP75),
        "boundary AP": _share(errors.boundary.AP),
        "duplicates": f"{duplicates:.2f}",
        **{fault: errors.faults.faults[fault].count for fault in FAULTS},
        "ms": f"{1000 * seconds:.1f}",
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
