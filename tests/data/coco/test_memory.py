"""Memory that a large annotation file takes."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import pytest

from protomask.data.coco.dataset import CocoDataset
from protomask.structures.coco_json import read_json

IMAGES, PER_IMAGE = 100, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outlines of 30 points with a decimal, as COCO has them; the image files are empty."""
    folder, draw = tmp_path_factory.mktemp("large"), random.Random(0)
    names = [f"{number}.jpg" for number in range(IMAGES)]
    for name in names:
        (folder / name).touch()
    content = {
        "images": [{"id": number, "file_name": name, "height": 480, "width": 640} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {
                "id": number, "image_id": number // PER_IMAGE, "category_id": 1, "iscrowd": 0, "area": 10.5,
                "bbox": [10.0, 20.0, 30.0, 40.0], "segmentation": [[round(draw.uniform(0, 400), 1) for _ in range(60)]],
            }
            for number in range(IMAGES * PER_IMAGE)
        ],
    }  # fmt: skip
    (folder / "set.json").write_text(json.dumps(content))
    return folder


def test_memory_is_bounded_by_the_size_of_the_file(folder: Path) -> None:
    CocoDataset(folder / "set.json", folder)  # what is made once and kept
    size = (folder / "set.json").stat().st_size
    tracemalloc.start()
    dataset = CocoDataset(folder / "set.json", folder)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.num_annotations == IMAGES * PER_IMAGE
    assert peak < 6 * size
    assert kept < 2 * size


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    numbers = [0.1, 1e-300, -2.5, 123456789.123456789, 0.1, 3, float("inf"), -0.0]
    file = tmp_path / "numbers.json"
    file.write_text(json.dumps(numbers))
    read = read_json(file)
    assert read == numbers
    assert [str(number) for number in read] == [str(number) for number in numbers]
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        file.write_text(json.dumps([0.5, "ä"], ensure_ascii=False), encoding=encoding)
        assert read_json(file) == [0.5, "ä"]
