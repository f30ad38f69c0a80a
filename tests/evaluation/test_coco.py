from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coco_records import (
    BACKENDS,
    HEIGHT,
    WIDTH,
    StubInstances,
    annotation,
    official,
    random_mask,
    random_results,
    recall,
    truth_as_results,
    values,
)
from protomask.errors import ConfigError, DataError
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances


@pytest.mark.parametrize("backend", BACKENDS)
def test_image_ids_choose_what_counts(truth: dict[str, Any], backend: Any) -> None:
    results = [row for row in truth_as_results(truth) if row["image_id"] == 10]
    whole = evaluate_coco(truth, results, backend=backend)
    assert recall(whole) < 1
    assert whole.num_images == 4
    one = evaluate_coco(truth, truth_as_results(truth), image_ids=[10], backend=backend)
    assert one.tables["mask"].AP == 1.0
    assert one.num_images == 1
    assert sum(c.num_objects for c in one.tables["mask"].per_class.values()) == len(results)
    assert evaluate_coco(truth, results, image_ids=[], backend=backend).tables["mask"].AP is None


def test_boxes_alone_need_no_masks(truth: dict[str, Any]) -> None:
    results = truth_as_results(truth)
    for row in (*truth["annotations"], *results):
        del row["segmentation"]
    metrics = evaluate_coco(truth, results, iou_types=("bbox",))
    assert metrics.mask is None
    assert metrics.tables["box"].AP == 1.0
    assert list(metrics.to_dict()) == ["num_images", "max_detections", "box"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_detections": ()}, "max_detections"),
        ({"max_detections": (10, 1)}, "max_detections"),
        ({"max_detections": (0, 10)}, "max_detections"),
        ({"iou_types": ("keypoints",)}, "iou_types"),
        ({"iou_types": ()}, "iou_types"),
        ({"backend": "other"}, "backend"),
    ],
)
def test_bad_options(truth: dict[str, Any], options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_coco(truth, [], **options)


def test_bad_files_are_named(tmp_path: Path, truth: dict[str, Any]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for path in (broken, tmp_path / "missing.json"):
        with pytest.raises(DataError, match=path.name):
            evaluate_coco(path, [])
        with pytest.raises(DataError, match=path.name):
            evaluate_coco(truth, path)
    broken.write_text('{"annotations": []}')
    with pytest.raises(DataError, match=r"broken.json: expected a list"):
        evaluate_coco(truth, broken)
    with pytest.raises(DataError, match="no image with id 5"):
        evaluate_coco(truth, [], image_ids=[5])


class TestEvaluator:
    def fill(self, evaluator: CocoEvaluator, rows: list[dict[str, Any]], image_ids: Sequence[int]) -> None:
        for image_id in image_ids:
            evaluator.update(image_id, StubInstances([row for row in rows if row["image_id"] == image_id]))  # type: ignore[arg-type]

    def evaluator(self, truth: Any, **options: Any) -> CocoEvaluator:
        return CocoEvaluator(truth, category_ids=(2, 5, 7, 9), **options)

    def test_saved_files_give_the_official_evaluator_the_same_numbers(
        self, tmp_path: Path, truth: dict[str, Any]
    ) -> None:
        rng = np.random.default_rng(3)
        rows = random_results(rng, truth)
        for row in rows:
            row["class_score"] = float(rng.random())
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(truth))
        evaluator = self.evaluator(path)
        self.fill(evaluator, rows, [10, 11, 12, 13])
        metrics = evaluator.evaluate()
        saved = evaluator.save_results(tmp_path / "run" / "val.json")
        assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["val_bbox.json", "val_segm.json"]
        for iou_type, table in zip(saved, metrics.tables.values(), strict=True):
            results = json.loads(saved[iou_type].read_text())
            assert len(results) == len(rows)
            assert values(table) == official(truth, results, iou_type, (1, 10, 100)).stats.tolist()
        assert evaluate_coco(path, saved) == metrics
        assert evaluate_coco(path, evaluator.results) == metrics
        assert evaluator.evaluate(backend="pycocotools") == metrics

    def test_predicted_instances(self, truth: dict[str, Any]) -> None:
        masks = np.stack([random_mask(np.random.default_rng(seed)) for seed in range(2)])
        truth["annotations"] = [
            annotation(1, 10, 2, masks[0]),
            annotation(2, 10, 7, masks[1]),
        ]
        evaluator = self.evaluator(truth)
        found = Instances(
            boxes=boxes_of_masks(masks),
            labels=np.array([0, 2]),
            class_scores=np.array([0.75, 0.5], dtype=np.float32),
            mask_scores=np.array([0.5, 0.5], dtype=np.float32),
            masks=masks,
            image_size=(HEIGHT, WIDTH),
            class_names=("a", "b", "c", "unused"),
        )
        evaluator.update(10, found)
        metrics = evaluator.evaluate()
        assert metrics.tables["box"].AP == metrics.tables["mask"].AP == pytest.approx(1.0, abs=1e-12)
        assert [row["score"] for row in evaluator.results["bbox"]] == [0.75, 0.5]
        assert [row["score"] for row in evaluator.results["segm"]] == [0.375, 0.25]
        assert [row["category_id"] for row in evaluator.results["segm"]] == [2, 7]

    def test_images_not_seen_are_missed_unless_asked(self, truth: dict[str, Any]) -> None:
        evaluator = self.evaluator(truth, max_detections=400)
        self.fill(evaluator, truth_as_results(truth), [10, 13])
        assert evaluator.image_ids == (10, 13)
        assert recall(evaluator.evaluate()) < 1
        seen = evaluator.evaluate(seen_only=True)
        assert seen.tables["mask"].AP == 1.0
        assert seen.max_detections == (1, 10, 400)
        assert seen.num_images == 2

    def test_nothing_seen(self, truth: dict[str, Any], tmp_path: Path) -> None:
        evaluator = self.evaluator(truth)
        assert evaluator.evaluate().tables["mask"].AP == 0
        assert evaluator.evaluate(seen_only=True).tables["mask"].AP is None
        assert json.loads(evaluator.save_results(tmp_path / "none")["segm"].read_text()) == []

    @pytest.mark.parametrize(("limit", "limits"), [(100, (1, 10, 100)), (10, (1, 10)), (5, (1, 5)), (1, (1,))])
    def test_limits(self, truth: dict[str, Any], limit: int, limits: tuple[int, ...]) -> None:
        assert self.evaluator(truth, max_detections=limit).evaluate().max_detections == limits

    def test_errors(self, truth: dict[str, Any]) -> None:
        evaluator = self.evaluator(truth)
        with pytest.raises(DataError, match="no image with id 99"):
            evaluator.update(99, StubInstances())  # type: ignore[arg-type]
        evaluator.update(10, StubInstances())  # type: ignore[arg-type]
        with pytest.raises(DataError, match="image id 10 was given twice"):
            evaluator.update(10, StubInstances())  # type: ignore[arg-type]
        with pytest.raises(DataError, match="no category with id 1, 3"):
            CocoEvaluator(truth, category_ids=(1, 2, 3))
        with pytest.raises(ConfigError, match="max_detections"):
            self.evaluator(truth, max_detections=0)
