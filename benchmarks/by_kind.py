"""AP of one model on each kind of image in a data set: kinds are what the annotation file tells of its images."""

from __future__ import annotations

import json

import torch

from measuring import argument_parser, positive, report
from protomask.api import load
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import check_classes, open_split


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--data", required=True, help="data set, as for protomask eval")
    parser.add_argument("--model", required=True, help="as for protomask predict")
    parser.add_argument("--key", default="modality", help="of the image records, that holds the kind")
    parser.add_argument("--tile", type=positive, help="side of tiles, pixels")
    parser.add_argument("--max-detections", type=positive, default=400)
    parser.add_argument("--limit", type=positive, help="only so many images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = open_split(options.data, limit=options.limit)
    model = load(options.model, threads=options.threads)
    check_classes(model.class_names, dataset)
    records = json.loads(dataset.annotation_file.read_text(encoding="utf-8"))["images"]
    kind_of = {record["id"]: str(record[options.key]) for record in records}
    indices: dict[str, list[int]] = {}
    for index, image_id in enumerate(dataset.image_ids):
        indices.setdefault(kind_of[image_id], []).append(index)
    rows = []
    for kind, chosen in sorted(indices.items(), key=lambda item: -len(item[1])):
        evaluator = CocoEvaluator(
            dataset.annotation_file, category_ids=dataset.category_ids, max_detections=options.max_detections
        )
        objects = 0
        for index in chosen:
            found = model.predict(
                dataset.load_pixels(index),
                score_threshold=0.0,
                max_detections=options.max_detections,
                tile=options.tile,
            )
            evaluator.update(dataset.image_ids[index], found.of_classes(dataset.class_names))
            objects += sum(not annotation.is_crowd for annotation in dataset.load_annotations(index))
        mask = evaluator.evaluate(seen_only=True).tables["mask"]
        numbers = {"mask AP": mask.AP, "AP50": mask.AP50, "AP75": mask.AP75}
        rows.append(
            {options.key: kind, "images": len(chosen), "objects": objects}
            | {name: "-" if value is None else f"{value:.3f}" for name, value in numbers.items()}
        )
    report(f"{options.model} by {options.key}, tile {options.tile}", rows, json_file=options.json)


if __name__ == "__main__":
    main()
