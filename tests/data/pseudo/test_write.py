from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.pseudo.write import write_pseudo_labels
from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.structures.instances import Instances

SIZE = (40, 60)


def square(x: int, y: int, side: int = 20) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def entry(number: int, image: int, x: int, y: int, **more: Any) -> dict[str, Any]:
    values = {"id": number, "image_id": image, "category_id": 5, "iscrowd": 0, "segmentation": square(x, y)}
    return {**values, "bbox": [x, y, 20, 20], "area": 400, "note": "kept", **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Image 1 has an object of each origin and a region, image 2 one drawn by people, image 3 none."""
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    images = [{"id": number, "file_name": f"{number}.png", "width": 60, "height": 40} for number in (1, 2, 3)]
    annotations = [
        entry(4, 1, 0, 0, mask_source="pseudo"),
        entry(7, 1, 0, 20, mask_source="exact", category_id=3),
        entry(9, 1, 40, 0, mask_source="pseudo", iscrowd=1),
        entry(8, 2, 0, 0, mask_source="exact"),
    ]
    content = {
        "images": images, "annotations": annotations, "categories": [{"id": 5, "name": "cat"}, {"id": 3, "name": "dog"}]
    }  # fmt: skip
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
        (folder / "images" / split).mkdir(parents=True)
        for number in (1, 2, 3):
            Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(folder / "images" / split / f"{number}.png")
    return folder


def find(images: Sequence[Pixels]) -> list[Instances]:
    """Cats where image 1 has an object and a region, one that it is not sure of, and a cow."""
    masks = np.zeros((4, *SIZE), dtype=np.bool_)
    masks[0, 1:20, 0:20] = masks[1, 0:20, 40:60] = masks[2, 25:35, 45:55] = masks[3, :, 25:35] = True
    boxes = np.array([[0, 1, 20, 20], [40, 0, 60, 20], [45, 25, 55, 35], [25, 0, 35, 40]], dtype=np.float32)
    found = Instances(
        boxes=boxes, labels=np.array([1, 1, 1, 0]), class_scores=np.array([0.9, 0.8, 0.3, 0.2], dtype=np.float32),
        masks=masks, image_size=SIZE, class_names=("cow", "cat"),
    )  # fmt: skip
    return [found for _ in images]


def test_labels_are_merged(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    output = tmp_path / "out"
    counts = write_pseudo_labels(data, output, find, on_progress=lambda done, total: seen.append((done, total)))
    assert vars(counts) == {
        "images": 2, "images_left_alone": 1, "redrawn": 1, "added": 3, "ignored": 2, "regions_removed": 1
    }  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]
    content = json.loads((output / "annotations" / "train.json").read_text())
    by_id = {one["id"]: one for one in content["annotations"]}
    assert set(by_id) == {4, 7, 8, *range(10, 15)}
    assert by_id[4] | {"segmentation": None} == entry(
        4, 1, 0, 0, bbox=[0.0, 1.0, 20.0, 19.0], area=380, mask_source="pseudo", score=0.9, segmentation=None
    )
    assert by_id[8] == entry(8, 2, 0, 0, mask_source="exact")
    paths = open_dataset(output / "dataset.yaml")
    train = CocoDataset.of_split(paths, "train")
    _, target = train[0]
    assert target.is_crowd.tolist() == [False, False, False, True]
    assert target.masks[0].sum() == 380
    assert paths.splits["val"].annotations == (data / "annotations" / "val.json").resolve()


def test_images_finished_by_people_may_be_looked_at_too(data: Path, tmp_path: Path) -> None:
    from protomask.data.pseudo.options import PseudoLabelOptions

    options = PseudoLabelOptions(only_unfinished=False, keep_above=0.85)
    counts = write_pseudo_labels(data, tmp_path / "out", find, options=options)
    assert (counts.images, counts.redrawn, counts.added) == (3, 1, 1)


def test_another_data_set_is_not_written_over(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output: expected .* to be new or empty"):
        write_pseudo_labels(data, data, find)
