"""A copy of an annotation file in which images of rare kinds come several times, so that training sees them more often.

Kinds are what the file tells of its images, as in by_kind.py. Only the annotation file is copied; a YAML that names it
and the images, which stay where they are, is what `protomask train --data` takes.

example:
  python benchmarks/repeat_kinds.py --data dsb2018-nuclei --times color=2 bright=5 --output runs/nuclei-repeated
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from budget import named
from protomask.data.coco.layout import open_dataset


def repeated(content: dict[str, Any], key: str, times: dict[str, int]) -> dict[str, Any]:
    """The content of a COCO file with new ids for what it repeats."""
    images, annotations = list(content["images"]), list(content["annotations"])
    objects: dict[int, list[dict[str, Any]]] = {}
    for annotation in annotations:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    next_image = max(image["id"] for image in images) + 1
    next_annotation = max(annotation["id"] for annotation in annotations) + 1
    for image in content["images"]:
        for _ in range(times.get(str(image[key]), 1) - 1):
            images.append({**image, "id": next_image})
            for annotation in objects.get(image["id"], []):
                annotations.append({**annotation, "id": next_annotation, "image_id": next_image})
                next_annotation += 1
            next_image += 1
    return {**content, "images": images, "annotations": annotations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set, as for protomask train")
    parser.add_argument("--key", default="modality", help="of the image records, that holds the kind")
    parser.add_argument("--times", nargs="+", required=True, metavar="KIND=N", help="how often each image is shown")
    parser.add_argument("--output", type=Path, required=True, help="folder of train.json and data.yaml")
    options = parser.parse_args()
    times = {kind: int(count) for kind, _, count in (text.partition("=") for text in options.times)}
    paths = open_dataset(options.data)
    source = json.loads(Path(paths.splits["train"].annotations).read_text(encoding="utf-8"))
    content = repeated(source, options.key, times)
    options.output.mkdir(parents=True, exist_ok=True)
    copy = options.output / "train.json"
    copy.write_text(json.dumps(content), encoding="utf-8")
    data = named(paths) | {"train_annotations": str(copy.resolve())}
    (options.output / "data.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    print(dict(Counter(str(image[options.key]) for image in content["images"])))


if __name__ == "__main__":
    main()
