from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from coco_folders import BLOB, RING, Objects, write_coco
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import DataWarning
from protomask.detection.options import PredictOptions
from protomask.errors import DataError
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import average_precisions, check_classes, evaluate, open_split, predict_dataset
from protomask.evaluation.quality import QualityMeter
from protomask.images.decode import Pixels
from protomask.structures.instances import Instances

CLASSES = ("cell", "dog")


class Seer:
    """Finds exactly the objects of a data set, whose images differ in their red."""

    def __init__(self, dataset: CocoDataset, class_names: Sequence[str] = CLASSES) -> None:
        self.class_names = tuple(class_names)
        self.options: list[PredictOptions] = []
        self.batches: list[int] = []
        self._truth = {
            int(dataset.load_image(index)[0, 0, 0]): dataset.load_target(index)[0] for index in range(len(dataset))
        }

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> list[Instances]:
        self.options.append(options)
        self.batches.append(len(images))
        return [self._found(image) for image in images]

    def _found(self, image: Pixels) -> Instances:
        truth = self._truth[int(image[0, 0, 0])]
        names = [CLASSES[label] for label in truth.labels.tolist()]
        return Instances(
            boxes=truth.boxes.numpy(),
            labels=np.array([self.class_names.index(name) for name in names], dtype=np.int64),
            class_scores=np.full(len(names), 0.9, dtype=np.float32),
            masks=truth.masks.numpy(),
            image_size=truth.image_size,
            class_names=self.class_names,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    images: Objects = {"a.png": [("cell", RING), ("dog", BLOB)], "b.png": [("dog", RING)], "c.png": [("cell", BLOB)]}
    write_coco(folder, images, split="val")
    return write_coco(folder, {"d.png": [("cell", BLOB)]}, split="train")


def test_whoever_finds_everything_has_perfect_numbers(folder: Path) -> None:
    dataset = open_split(str(folder))
    seer = Seer(dataset)
    progress: list[tuple[int, int]] = []
    options = PredictOptions(batch_size=2, nms="fast", score_threshold=0.7)
    metrics = evaluate(seer, dataset, options=options, on_progress=lambda *numbers: progress.append(numbers))
    assert metrics.box is not None
    assert metrics.mask is not None
    assert metrics.tables["box"].AP == metrics.tables["mask"].AP == pytest.approx(1.0)
    assert (metrics.num_images, metrics.max_detections) == (3, (1, 10, 100))
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert seer.options == [options.replace(score_threshold=0.0, max_detections=100)] * 2
    assert seer.batches == [2, 1]


def test_only_the_images_of_the_data_set_count(folder: Path) -> None:
    dataset = open_split(str(folder), limit=1)
    metrics = evaluate(Seer(dataset), dataset, options=PredictOptions(max_detections=5))
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


def test_quality_is_measured_on_the_way(folder: Path) -> None:
    dataset = open_split(str(folder))
    evaluator = CocoEvaluator(dataset.annotation_file, category_ids=dataset.category_ids)
    quality = QualityMeter(dataset.annotation_file, category_ids=dataset.category_ids)
    seen: list[tuple[int, int]] = []
    predict_dataset(
        Seer(dataset), dataset, evaluator, options=PredictOptions(batch_size=2), quality=quality,
        on_image=lambda image_id, found: seen.append((image_id, len(found))),
    )  # fmt: skip
    assert seen == [(1, 2), (2, 1), (3, 1)]
    report = quality.compute()
    assert report.populations["all"].mean_iou == 1.0
    assert report.mask_ap["class_score"].AP == evaluator.evaluate().tables["mask"].AP == pytest.approx(1.0)


def test_several_predictors(folder: Path) -> None:
    dataset = open_split(str(folder))
    seer = Seer(dataset)
    progress: list[tuple[int, int]] = []
    found = average_precisions(
        {"one": seer, "other": seer}, dataset, on_progress=lambda *numbers: progress.append(numbers)
    )
    assert list(found) == ["one", "other"]
    assert found["one"] == pytest.approx(
        {f"{kind}_{name}": 1.0 for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")}
    )
    assert progress == [(done, 6) for done in range(1, 7)]
    assert {options.max_detections for options in seer.options} == {None}


def test_several_predictors_may_have_options_of_their_own(folder: Path) -> None:
    dataset = open_split(str(folder))
    one, other = Seer(dataset), Seer(dataset)
    options = {"one": PredictOptions(max_detections=7), "other": PredictOptions(nms="batched")}
    average_precisions({"one": one, "other": other}, dataset, options=options)
    assert {(options.max_detections, options.nms) for options in one.options} == {(7, None)}
    assert {(options.max_detections, options.nms) for options in other.options} == {(None, "batched")}
