from __future__ import annotations

from typing import Any

import pytest

from coco_records import truth_as_results
from protomask.data.coco.schema import DataWarning
from protomask.errors import DataError
from protomask.evaluation.evaluator import evaluate_coco


def test_annotations_without_optional_keys(truth: dict[str, Any]) -> None:
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    results = truth_as_results(truth)
    for one in truth["annotations"]:
        if isinstance(one["segmentation"], dict):
            del one["bbox"], one["area"], one["iscrowd"]
    metrics = evaluate_coco(truth, results)
    assert metrics.box.AP == metrics.mask.AP == 1.0


@pytest.mark.parametrize("segmentation", [[[1.0, 1.0, 5.0, 5.0]], [[1.0, 1.0, 5.0, 5.0, 1.0, 1.0]], [], None, {}])
def test_objects_that_training_drops_are_not_counted_and_told(truth: dict[str, Any], segmentation: Any) -> None:
    results = truth_as_results(truth)
    truth["annotations"].append({**truth["annotations"][0], "id": 999, "iscrowd": 0, "segmentation": segmentation})
    with pytest.warns(DataWarning, match=r"annotation 999: .*dropped"):
        assert evaluate_coco(truth, results, iou_types=("segm",)).mask.AR_max == 1


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
