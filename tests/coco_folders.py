"""Small COCO folders: written from masks, and read as sets of pixels, so that two of them can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drawn_masks import drawn
from protomask.data.coco.dataset import CocoDataset
from protomask.data.formats.convert import Conversion, convert_dataset
from protomask.masks.rle import encode_rle

Objects = Mapping[str, Sequence[tuple[str, Any]]]
"""Of images by file name, each with its class and its mask or segmentation."""
Found = dict[str, list[tuple[str, bool, bytes]]]


def write_coco(
    folder: Path,
    images: Objects,
    *,
    split: str = "train",
    class_names: Sequence[str] = ("cell", "dog"),
    size: tuple[int, int] | None = None,
) -> Path:
    """Writes a split of a COCO folder: images by file name, each with (class, mask or segmentation) of its objects."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, objects) in enumerate(images.items(), start=1):
        masks = [thing for _, thing in objects if isinstance(thing, np.ndarray)]
        height, width = size or (masks[0].shape if masks else (10, 12))
        path = folder / "images" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (40 * image_id, 0, 0)).save(path)
        entries.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for class_name, thing in objects:
            crowd = class_name.endswith("*")
            segmentation = encode_rle(thing[None])[0] if isinstance(thing, np.ndarray) else thing
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 7 * (class_names.index(class_name.rstrip("*")) + 1),
                    "segmentation": segmentation,
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": 7 * (index + 1), "name": name} for index, name in enumerate(class_names)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


def read_coco(folder: Path, split: str = "train") -> Found:
    """Objects of every image of a split by name of the image: class, crowd, and pixels of the mask, in any order."""
    dataset = CocoDataset(folder / "annotations" / f"{split}.json", folder / "images" / split)
    found: Found = {}
    for index in range(len(dataset)):
        target, _ = dataset.load_target(index)
        assert dataset.load_image(index).shape[1:] == target.image_size
        found[dataset.image_path(index).name] = sorted(
            (dataset.class_names[label], bool(crowd), mask.numpy().tobytes())
            for label, crowd, mask in zip(target.labels.tolist(), target.is_crowd, target.masks, strict=True)
        )
    return found


RING = drawn("............", ".#####......", ".#...#......", ".#.#.#...##.", ".#...#...##.", ".#####......")
"""A ring around an island, and a part beside it."""
BLOB = drawn("............", "......###...", ".......##...", "............", "............", "............")


def convert(folder: Path, **options: Any) -> Conversion:
    """Converts a data set of another format to COCO, in ``out`` beside its folder."""
    return convert_dataset(folder, folder.parent / "out", output_format="coco", **options)


def written(folder: Path) -> list[dict[str, Any]]:
    """The annotations that `convert` wrote."""
    content = json.loads((folder.parent / "out" / "annotations" / "train.json").read_text())
    found: list[dict[str, Any]] = content["annotations"]
    return found
