"""How long an overlay takes: protomask's own drawing against supervision's annotators."""

from __future__ import annotations

import importlib.util

import torch

from measuring import argument_parser, milliseconds, report
from scenes import random_image, random_instances

SCENES = ((20, 534, 800), (60, 1500, 2250))


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import supervision

    # Supervision works with or without OpenCV; which of the two was measured decides the result.
    backend = "OpenCV" if importlib.util.find_spec("cv2") else "NumPy"
    fill, box, label = supervision.MaskAnnotator(), supervision.BoxAnnotator(), supervision.LabelAnnotator()
    rows = []
    for count, height, width in SCENES:
        image = random_image(height, width, seed=0)
        found = random_instances(count, height, width, num_classes=20, seed=0)
        detections = found.to_supervision()
        names = [found.class_names[index] for index in found.labels.tolist()]

        def by_supervision(image=image, detections=detections, names=names):
            return label.annotate(box.annotate(fill.annotate(image.copy(), detections), detections), detections, names)

        times = milliseconds(
            {"own": lambda image=image, found=found: found.draw(image), "supervision": by_supervision},
            rounds=options.rounds,
        )
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


if __name__ == "__main__":
    main()
