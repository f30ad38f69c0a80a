from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.errors import DataError
from protomask.explaining.truth import read_truth


def annotate(folder: Path, names: tuple[str, ...] = ("a.png", "sub/b.png")) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(folder / name)
    square: dict[str, Any] = {"category_id": 7, "iscrowd": 0, "area": 100, "bbox": [10, 5, 10, 10]}
    content = {
        "images": [{"id": k + 5, "file_name": name, "width": 40, "height": 20} for k, name in enumerate(names)],
        "categories": [{"id": 7, "name": "nut"}],
        "annotations": [
            {**square, "id": 1, "image_id": 5, "segmentation": [[10, 5, 20, 5, 20, 15, 10, 15]]},
            {**square, "id": 2, "image_id": 6, "segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]},
            {**square, "id": 3, "image_id": 6, "segmentation": "damaged, but of another image"},
        ],
    }
    file = folder / "all.json"
    file.write_text(json.dumps(content))
    return file


def test_only_the_objects_of_the_image_are_read(tmp_path: Path) -> None:
    truth = read_truth(annotate(tmp_path), tmp_path / "a.png", (20, 40))
    assert truth.names == ["nut"]
    assert truth.masks.shape == (1, 20, 40)
    assert truth.masks[0, 5:15, 10:20].all()
    assert truth.masks.sum() == 100


def test_the_best_object_is_the_match(tmp_path: Path) -> None:
    truth = read_truth(annotate(tmp_path), tmp_path / "a.png", (20, 40))
    mask = np.zeros((20, 40), dtype=np.bool_)
    assert truth.match(mask) is None
    mask[5:15, 10:15] = True
    assert truth.match(mask) == (0, "nut", 0.5)


def test_an_image_that_is_not_annotated_is_an_error(tmp_path: Path) -> None:
    file = annotate(tmp_path)
    with pytest.raises(DataError, match=r"expected one image named c\.png, got 0"):
        read_truth(file, tmp_path / "c.png", (20, 40))
