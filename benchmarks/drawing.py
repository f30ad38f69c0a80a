"""How long an overlay takes: protomask's own drawing against supervision's annotators."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measuring import argument_parser, milliseconds, report
from protomask.structures.instances import Instances
from scenes import random_image, random_instances

SCENES = ((20, 534, 800), (60, 1500, 2250))


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    options = parser.parse_args()
    # Supervision works with or without OpenCV; which of the two was measured decides the result.
    backend = "OpenCV" if importlib.util.find_spec("cv2") else "NumPy"
    by_supervision = annotator()
    rows = []
    for count, height, width in SCENES:
        image = random_image(height, width, seed=0)
        found = random_instances(count, height, width, num_classes=20, seed=0)
        _ = found.masks, found.runs()  # kept by the instances: only drawing is measured
        candidates = {
            "own": partial(found.draw, image),
            "supervision": partial(by_supervision, image, found.to_supervision(), found),
        }
        times = milliseconds(candidates, rounds=options.rounds)
        rows.append(
            {
                "objects": count,
                "image": f"{width}x{height}",
                "own ms": times["own"],
                f"supervision ({backend}) ms": times["supervision"],
                "ratio": times["supervision"] / times["own"],
            }
        )
    report("drawing masks, boxes and labels", rows, json_file=options.json)


def annotator() -> Any:
    """Draws what `Instances.draw` draws, with supervision."""
    import supervision

    fill, box, label = supervision.MaskAnnotator(), supervision.BoxAnnotator(), supervision.LabelAnnotator()

    def annotate(image: NDArray[np.uint8], detections: Any, found: Instances) -> Any:
        filled = fill.annotate(image.copy(), detections)
        return label.annotate(box.annotate(filled, detections), detections, found.names)

    return annotate


if __name__ == "__main__":
    main()
