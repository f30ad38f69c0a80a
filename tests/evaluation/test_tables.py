from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from coco_records import BACKENDS, SUMMARY, truth_as_results, values
from protomask.data.coco.schema import DataWarning
from protomask.evaluation.coco import evaluate_coco


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("left_out", ["annotations", "images", "categories", "all but crowds"])
def test_no_ground_truth_is_none(truth: dict[str, Any], left_out: str, backend: Any) -> None:
    results = truth_as_results(truth)
    if left_out == "all but crowds":
        truth["annotations"] = [one for one in truth["annotations"] if one["iscrowd"]]
        assert truth["annotations"]
    else:
        truth[left_out] = []
    # Annotations without their image or their category are left out with a warning.
    orphans = left_out in ("images", "categories")
    with pytest.warns(DataWarning, match="left out") if orphans else nullcontext():
        metrics = evaluate_coco(truth, [] if orphans else results, backend=backend)
    for table in metrics.tables.values():
        assert values(table) == [-1] * len(SUMMARY)
        assert all(one.AP is None for one in table.per_class.values())
    assert "-" in metrics.as_text()


def test_metrics_as_json_text_and_rows(truth: dict[str, Any]) -> None:
    truth["categories"].append({"id": 11, "name": "a"})
    truth["annotations"].append({**truth["annotations"][0], "id": 99, "category_id": 11, "iscrowd": 0})
    metrics = evaluate_coco(truth, truth_as_results(truth))
    content = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert content["mask"]["AP"] == 1.0
    assert content["mask"]["AR_max"] == content["mask"]["AR_100"] == 1.0
    assert content["box"]["per_class"]["unused"] == {"AP": None, "AP50": None, "num_objects": 0}
    assert list(content["box"]["per_class"]) == ["a (2)", "b", "c", "unused", "a (11)"]
    assert metrics.rows()[0] == ("AP", [1.0, 1.0])
    assert [name for name, _ in metrics.rows()][6:9] == ["AR_1", "AR_10", "AR_100"]
    assert metrics.class_rows()[3] == ("unused", 0, [None] * 4)
    lines = metrics.as_text().splitlines()
    assert lines[0].split() == ["box", "mask"]
    assert lines[1].split() == ["AP", "1.0000", "1.0000"]
    assert lines[-2].split() == ["unused", "0", "-", "-", "-", "-"]
