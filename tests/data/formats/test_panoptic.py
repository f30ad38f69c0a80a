from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exports import mask_of, png
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError

CAT, DOG, CROWD, SKY, LOST = 1, 300, 70_000, 9, 5
NUMBERS = np.zeros((6, 8), dtype=np.int64)
NUMBERS[0] = SKY
NUMBERS[1:3, :3], NUMBERS[3:5, 2:6], NUMBERS[5] = CAT, DOG, CROWD


def colours(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)


def write(folder: Path, pixels: np.ndarray | None = None, **changes: Any) -> Path:
    (folder / "annotations" / "panoptic_val2017").mkdir(parents=True)
    (folder / "val2017").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "val2017" / "a.jpg")
    content = colours(NUMBERS) if pixels is None else pixels
    (folder / "annotations" / "panoptic_val2017" / "a.png").write_bytes(png(content))
    kinds = ((CAT, 17, 0), (DOG, 18, 0), (CROWD, 17, 1), (SKY, 187, 0))
    infos = [{"id": number, "category_id": category, "iscrowd": crowd, "area": 3, "bbox": [0, 0, 1, 1]}
             for number, category, crowd in kinds]  # fmt: skip
    content_ = {
        "images": [{"id": 42, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [{"image_id": 42, "file_name": "a.png", "segments_info": infos, **changes}],
        "categories": [
            {"id": 18, "name": "dog", "isthing": 1, "supercategory": "animal"},
            {"id": 17, "name": "cat", "isthing": 1, "supercategory": "animal"},
            {"id": 187, "name": "sky", "isthing": 0, "supercategory": "outdoor"},
        ],
    }
    (folder / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content_))
    return folder


def test_things_are_objects_and_stuff_is_counted(tmp_path: Path) -> None:
    done = convert_dataset(write(tmp_path / "in"), tmp_path / "out", output_format="coco")
    assert (done.source_format, done.class_names, done.images) == ("panoptic", ("cat", "dog"), {"val": 1})
    [remark] = done.remarks
    assert remark.startswith("1 segments of stuff left out, which has no instances (first: ")
    content = json.loads((tmp_path / "out" / "annotations" / "val.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in content["categories"]] == [(17, "cat"), (18, "dog")]
    assert [image["id"] for image in content["images"]] == [42]
    found = {(one["category_id"], one["iscrowd"]): one["segmentation"] for one in content["annotations"]}
    for key, number in (((17, 0), CAT), ((18, 0), DOG), ((17, 1), CROWD)):
        assert (mask_of(found[key], (6, 8)) == (number == NUMBERS)).all()


def test_what_does_not_agree_is_counted(tmp_path: Path) -> None:
    infos = [{"id": number, "category_id": 17} for number in (CAT, LOST)]
    done = convert_dataset(write(tmp_path / "in", segments_info=infos), tmp_path / "out", output_format="coco")
    assert [remark.split(" (")[0] for remark in done.remarks] == [
        "3 colours that segments_info does not list left out",
        "1 segments without a pixel left out",
    ]
    assert done.objects == {"val": 1}


def test_instances_beside_it_are_read_instead(tmp_path: Path) -> None:
    source = write(tmp_path / "in")
    image = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (source / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    assert convert_dataset(source, tmp_path / "out", output_format="coco").source_format == "coco"


@pytest.mark.parametrize(
    ("pixels", "changes", "message"),
    [
        (colours(NUMBERS)[:5], {}, r"a\.png: 8x5 px, its image .*a\.jpg is 8x6 px"),
        (NUMBERS.astype(np.uint8), {}, r"a\.png: cannot be read as an image: expected colours, got mode L"),
        (None, {"segments_info": 3}, "image 42: segments_info: expected a list, got 3"),
        (None, {"segments_info": [{"id": 1, "category_id": 5}]}, r"segments_info\[0\]: expected an id and a known cat"),
        (None, {"segments_info": [7]}, r"segments_info\[0\]: expected an id"),
        (None, {"file_name": None}, "image 42: expected the file_name of its PNG, got None"),
        (None, {"file_name": "b.png"}, "image 42: no image 'b.png' in"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, pixels: np.ndarray | None, changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert_dataset(write(tmp_path / "in", pixels, **changes), tmp_path / "out", output_format="coco")
