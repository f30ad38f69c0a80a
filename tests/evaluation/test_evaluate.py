from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from coco_folders import BLOB, RING, write_coco
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import DataWarning
from protomask.errors import ConfigError, DataError
from protomask.evaluation.evaluate import average_precisions, check_classes, evaluate, open_split, predict_dataset
from protomask.evaluation.evaluator import CocoEvaluator
from protomask.evaluation.quality import QualityMeter
from protomask.structures.instances import Instances

CLASSES = ("cell", "dog")


class Seer:
    """Finds exactly the objects of a data set, whose images differ in their red."""

    def __init__(self, dataset: CocoDataset, class_names: Sequence[str] = CLASSES) -> None:
        self.class_names = tuple(class_names)
        self.options: list[dict[str, Any]] = []
        self._truth = {
            int(dataset.load_image(index)[0, 0, 0]): dataset.load_target(index)[0] for index in range(len(dataset))
        }

    def predict_images(self, images: Sequence[torch.Tensor], **options: Any) -> list[Instances]:
        self.options.append({**options, "images": len(images)})
        return [self._found(image) for image in images]

    def _found(self, image: torch.Tensor) -> Instances:
        truth = self._truth[int(image[0, 0, 0])]
        names = [CLASSES[label] for label in truth.labels.tolist()]
        return Instances(
            boxes=truth.boxes,
            labels=torch.tensor([self.class_names.index(name) for name in names], dtype=torch.int64),
            class_scores=torch.full((len(names),), 0.9),
            masks=truth.masks,
            image_size=truth.image_size,
            class_names=self.class_names,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    images = {"a.png": [("cell", RING), ("dog", BLOB)], "b.png": [("dog", RING)], "c.png": [("cell", BLOB)]}
    write_coco(folder, images, split="val")
    return write_coco(folder, {"d.png": [("cell", BLOB)]}, split="train")


def test_whoever_finds_everything_has_perfect_numbers(folder: Path) -> None:
    dataset = open_split(str(folder))
    seer, progress = Seer(dataset), []
    metrics = evaluate(
        seer, dataset, batch_size=2, nms="fast", on_progress=lambda done, total: progress.append((done, total))
    )
    assert metrics.box is not None
    assert metrics.mask is not None
    assert metrics.box.AP == metrics.mask.AP == pytest.approx(1.0)
    assert (metrics.num_images, metrics.max_detections) == (3, (1, 10, 100))
    assert progress == [(1, 3), (2, 3), (3, 3)]
    common = {"score_threshold": 0.0, "max_detections": 100, "nms": "fast"}
    assert seer.options == [{**common, "images": 2}, {**common, "images": 1}]


def test_only_the_images_of_the_data_set_count(folder: Path) -> None:
    dataset = open_split(str(folder), limit=1)
    metrics = evaluate(Seer(dataset), dataset, max_detections=5)
    assert pytest.approx(1.0) == metrics.tables["mask"].AP
    assert (metrics.num_images, metrics.max_detections) == (1, (1, 5))
    assert len(open_split(str(folder), "train")) == 1


def test_classes_that_the_data_lacks_are_left_out_with_a_warning(folder: Path) -> None:
    dataset = open_split(str(folder))
    with pytest.warns(DataWarning, match="not in the data, left out: bird, cat$"):
        metrics = evaluate(Seer(dataset, ("bird", "dog", "cat", "cell")), dataset)
    assert pytest.approx(1.0) == metrics.tables["mask"].AP
    assert list(metrics.tables["mask"].per_class) == ["cell", "dog"]


def test_classes_that_the_model_lacks_are_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)val\.json: .*unknown to the model: cell\n.*of the model: dog, cat"):
        check_classes(["dog", "cat"], open_split(str(folder)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_classes(CLASSES[::-1], open_split(str(folder)))


def test_options_out_of_range(folder: Path) -> None:
    dataset = open_split(str(folder))
    for options, message in (({"batch_size": 0}, "batch_size"), ({"max_detections": 0}, "max_detections")):
        with pytest.raises(ConfigError, match=message):
            evaluate(Seer(dataset), dataset, **options)


def test_quality_is_measured_on_the_way(folder: Path) -> None:
    dataset = open_split(str(folder))
    evaluator, quality = (
        kind(dataset.annotation_file, category_ids=dataset.category_ids) for kind in (CocoEvaluator, QualityMeter)
    )
    seen: list[tuple[int, int]] = []
    predict_dataset(
        Seer(dataset), dataset, evaluator, batch_size=2, quality=quality,
        on_image=lambda image_id, found: seen.append((image_id, len(found))),
    )  # fmt: skip
    assert seen == [(1, 2), (2, 1), (3, 1)]
    report = quality.compute()
    assert report.populations["all"].mean_iou == 1.0
    assert report.mask_ap["class_score"].AP == evaluator.evaluate().tables["mask"].AP == pytest.approx(1.0)


def test_several_predictors(folder: Path) -> None:
    dataset, progress = open_split(str(folder)), []
    seer = Seer(dataset)
    found = average_precisions(
        {"one": seer, "other": seer}, dataset, on_progress=lambda done, total: progress.append((done, total))
    )
    assert list(found) == ["one", "other"]
    assert found["one"] == pytest.approx(
        {f"{kind}_{name}": 1.0 for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")}
    )
    assert progress == [(done, 6) for done in range(1, 7)]
    assert all("max_detections" not in options for options in seer.options)
