from __future__ import annotations

from typing import Any

import pytest

from coco_records import recall, truth_as_results
from protomask.data.coco.schema import DataWarning
from protomask.errors import DataError
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.evaluation.truth import GroundTruth


def test_annotations_without_optional_keys(truth: dict[str, Any]) -> None:
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    results = truth_as_results(truth)
    for one in truth["annotations"]:
        if isinstance(one["segmentation"], dict):
            del one["bbox"], one["area"], one["iscrowd"]
    metrics = evaluate_coco(truth, results)
    assert metrics.tables["box"].AP == metrics.tables["mask"].AP == 1.0


@pytest.mark.parametrize("segmentation", [[[1.0, 1.0, 5.0, 5.0]], [[1.0, 1.0, 5.0, 5.0, 1.0, 1.0]], [], None, {}])
def test_objects_that_training_drops_are_not_counted_and_told(truth: dict[str, Any], segmentation: Any) -> None:
    results = truth_as_results(truth)
    truth["annotations"].append({**truth["annotations"][0], "id": 999, "iscrowd": 0, "segmentation": segmentation})
    with pytest.warns(DataWarning, match=r"annotation 999: .*dropped"):
        assert recall(evaluate_coco(truth, results, iou_types=("segm",))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth.pop("images"), "key 'images'"),
        (lambda truth: truth.pop("categories"), "key 'categories'"),
        (lambda truth: truth["images"][1].pop("id"), r"images\[1\].*key 'id'"),
        (lambda truth: truth["images"][1].update(id="12"), r"images\[1\].*got '12'"),
        (lambda truth: truth["annotations"][3].pop("category_id"), r"annotation 4\): key 'category_id'"),
        (lambda truth: truth["annotations"][3].update(bbox=[]), "annotation 4: .*four numbers"),
        (lambda truth: truth["annotations"][3].update(segmentation={"counts": "x"}), "annotation 4: .*RLE"),
    ],
)
def test_bad_ground_truth_is_named(truth: dict[str, Any], change: Any, message: str) -> None:
    change(truth)
    with pytest.raises(DataError, match=message):
        evaluate_coco(truth, [])


def test_what_was_loaded_is_not_loaded_again(truth: dict[str, Any]) -> None:
    loaded = GroundTruth.load(truth, masks=True)
    assert GroundTruth.load(loaded, masks=False) is loaded
    assert CocoEvaluator(loaded, category_ids=(2, 5)).truth is loaded
    results = truth_as_results(truth)
    assert evaluate_coco(loaded, results) == evaluate_coco(truth, results)
    before = evaluate_coco(truth, results, iou_types=("bbox",))
    del truth["annotations"][0]["segmentation"]
    boxes = GroundTruth.load(truth, masks=False)
    assert evaluate_coco(boxes, results, iou_types=("bbox",)) == before
    with pytest.raises(DataError, match="ground truth: expected annotations with masks, got some loaded without"):
        evaluate_coco(boxes, results)
