from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coco_records import BACKENDS, annotation, official, random_results, random_truth, truth_as_results, values
from protomask.errors import DataError
from protomask.evaluation.coco import evaluate_coco


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_official_summary(seed: int, with_boxes: bool, backend: Any) -> None:
    rng = np.random.default_rng(seed)
    truth = random_truth(rng, objects=int(rng.integers(1, 14)))
    results = random_results(rng, truth)
    if not with_boxes:
        results = [{key: value for key, value in row.items() if key != "bbox"} for row in results]
    before = copy.deepcopy((truth, results))
    metrics = evaluate_coco(truth, results, backend=backend)
    assert (truth, results) == before
    assert values(metrics.box) == official(truth, results, "bbox", (1, 10, 100)).stats.tolist()
    assert values(metrics.mask) == official(truth, results, "segm", (1, 10, 100)).stats.tolist()
    assert metrics.num_images == 4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("limits", [(1, 10, 400), (1, 10, 20), (2, 5, 50)])
def test_other_limits_are_read_at_the_largest(limits: tuple[int, ...], backend: Any) -> None:
    rng = np.random.default_rng(5)
    truth = random_truth(rng, num_images=3, objects=40)
    results = random_results(rng, truth, extra=150, copies=3)
    metrics = evaluate_coco(truth, results, max_detections=limits, backend=backend)
    for iou_type, table in zip(("bbox", "segm"), metrics.tables.values(), strict=True):
        arrays = official(truth, results, iou_type, limits).eval
        precision, recall = arrays["precision"][..., 0, -1], arrays["recall"][..., 0, :]
        assert precision[precision > -1].mean() == table.AP
        assert precision[0][precision[0] > -1].mean() == table.AP50
        assert precision[5][precision[5] > -1].mean() == table.AP75
        assert precision[:, :, 1].mean() == table.per_class["b"].AP
        assert precision[0, :, 1].mean() == table.per_class["b"].AP50
        assert {limit: recall[..., m][recall[..., m] > -1].mean() for m, limit in enumerate(limits)} == table.AR
        assert table.AR_max == table.AR[limits[-1]]
    last = evaluate_coco(truth, results, max_detections=limits[-1:], backend=backend)
    assert last.tables["mask"].AP == metrics.tables["mask"].AP


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("start", ["T", "TF", "TT", "TTF", "FT", "FTT", "TFTTTT"])
@pytest.mark.parametrize("objects", [1, 2, 60, 250])
def test_rounding_of_the_first_detections(objects: int, start: str, backend: Any) -> None:
    """The official precision of a first and only correct detection is 1 - 2⁻⁵², however short the recall step is."""
    size = 16 * 16 * 2
    image = {"id": 1, "height": size, "width": size}
    boxes = [[16 * (i % 16), 16 * (i // 16), 10, 10] for i in range(objects)]
    truth = {
        "images": [image],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 100, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
    }
    found = iter(boxes)
    results = []
    for i, kind in enumerate(start):
        box = next(found, [0, 400, 9, 9]) if kind == "T" else [0, 500, 9, 9]
        results.append({"image_id": 1, "category_id": 1, "score": 1 - i / 10, "bbox": box})
    table = evaluate_coco(truth, results, iou_types=("bbox",), backend=backend).box
    assert values(table) == official(truth, results, "bbox", (1, 10, 100)).stats.tolist()


def test_more_than_one_hundred_detections_count_when_asked() -> None:
    rng = np.random.default_rng(1)
    image = {"id": 1, "height": 300, "width": 300}
    annotations = []
    for i in range(200):
        y, x = 20 * (i // 15), 20 * (i % 15)
        mask = np.zeros((300, 300), dtype=bool)
        mask[y : y + 12, x : x + 12] = True
        annotations.append(annotation(i + 1, 1, 1, mask))
    truth = {"images": [image], "categories": [{"id": 1, "name": "cell"}], "annotations": annotations}
    results = [{**row, "score": float(rng.random())} for row in truth_as_results(truth)]
    assert evaluate_coco(truth, results, max_detections=(1, 10, 400)).tables["mask"].AP == 1.0
    assert evaluate_coco(truth, results).tables["mask"].AR_max == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("first_id", [0, 1])
def test_truth_as_predictions_is_perfect(truth: dict[str, Any], first_id: int, backend: Any) -> None:
    for number, one in enumerate(truth["annotations"]):
        one["id"] = number + first_id
    metrics = evaluate_coco(truth, truth_as_results(truth), backend=backend)
    for table in metrics.tables.values():
        assert table.AP == table.AP50 == table.AP75 == table.AR_max == 1.0
        assert table.per_class["unused"].AP is None
        assert table.per_class["unused"].num_objects == 0
        assert sum(one.num_objects for one in table.per_class.values()) == len(truth_as_results(truth))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_results_is_zero(truth: dict[str, Any], backend: Any) -> None:
    metrics = evaluate_coco(truth, [], backend=backend)
    for table in metrics.tables.values():
        assert (table.AP, table.AP50, table.AR_1, table.AR_max, table.per_class["a"].AP) == (0, 0, 0, 0, 0)


def test_boxes_are_ranked_by_class_score(truth: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    rows = random_results(rng, truth)
    for row in rows:
        row["class_score"] = float(rng.random())
    metrics = evaluate_coco(truth, rows)
    by_class = [{**row, "score": row["class_score"]} for row in rows]
    assert values(metrics.box) == official(truth, by_class, "bbox", (1, 10, 100)).stats.tolist()
    assert values(metrics.mask) == official(truth, rows, "segm", (1, 10, 100)).stats.tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_printed(truth: dict[str, Any], capfd: pytest.CaptureFixture[str], backend: Any) -> None:
    evaluate_coco(truth, truth_as_results(truth), backend=backend)
    assert capfd.readouterr() == ("", "")


def without(key: str) -> Any:
    return lambda row: row.pop(key)


def having(**changes: Any) -> Any:
    return lambda row: row.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (having(image_id=777), r"image_id not in .*: 777"),
        (having(category_id=1), r"category_id not in .*: 1"),
        (without("score"), r"results\[2\]: key 'score'"),
        (without("image_id"), r"results\[2\]: key 'image_id'"),
        (without("category_id"), r"results\[2\]: key 'category_id'"),
        (without("bbox"), r"results\[2\]: key 'bbox'"),
        (without("segmentation"), r"results\[2\]: key 'segmentation'.*iou_types"),
        (having(score=float("nan")), r"results\[2\].*finite score, got nan"),
        (having(score="high"), r"results\[2\].*finite score, got 'high'"),
        (having(bbox=[1, 2, 3]), r"results\[2\].*four finite numbers"),
        (having(bbox=[1, 2, 3, None]), r"results\[2\].*four finite numbers"),
        (having(segmentation="x"), r"results\[2\].*expected polygons or an RLE"),
        (having(segmentation={"size": [5, 9], "counts": [45]}), r"results\[2\].*size \[120, 150\], got \[5, 9\]"),
        (having(segmentation={"size": [120, 150], "counts": [25]}), r"results\[2\].*18000 pixels in total, got 25"),
    ],
)
def test_bad_result_rows_are_named(truth: dict[str, Any], change: Any, message: str) -> None:
    results = truth_as_results(truth)
    change(results[2])
    with pytest.raises(DataError, match=message):
        evaluate_coco(truth, results)


def test_only_the_first_unknown_ids_are_listed(truth: dict[str, Any]) -> None:
    results = [{**truth_as_results(truth)[0], "image_id": 1000 + i} for i in range(8)]
    with pytest.raises(DataError, match=r"1000, 1001, 1002, 1003, 1004, and 3 more"):
        evaluate_coco(truth, results)


@pytest.mark.data
class TestCocoMini:
    @pytest.fixture
    def path(self, data_dir: Path) -> Path:
        return data_dir / "coco-mini" / "annotations" / "val.json"

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_truth_as_predictions_is_perfect(self, path: Path, backend: Any) -> None:
        results = truth_as_results(json.loads(path.read_text()))
        metrics = evaluate_coco(path, results, backend=backend)
        assert metrics.num_images == 82
        assert metrics.tables["box"].AP == metrics.tables["mask"].AP == 1.0
        assert len(metrics.tables["mask"].per_class) == 80

    def test_random_predictions_equal_official(self, path: Path, tmp_path: Path) -> None:
        truth = json.loads(path.read_text())
        results = random_results(np.random.default_rng(0), truth, extra=10, copies=1)
        saved = tmp_path / "results.json"
        saved.write_text(json.dumps(results))
        expected = [official(truth, results, iou_type, (1, 10, 100)).stats.tolist() for iou_type in ("bbox", "segm")]
        for backend in BACKENDS:
            metrics = evaluate_coco(path, saved, backend=backend)  # type: ignore[arg-type]
            assert [values(metrics.box), values(metrics.mask)] == expected
