from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from protomask.errors import ConfigError, DataError
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.structures.instances import Instances

BACKENDS = ("fast", "pycocotools")
SUMMARY = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_max", "AR_small", "AR_medium",
    "AR_large",
)  # fmt: skip
HEIGHT, WIDTH = 120, 150


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_mask(rng: np.random.Generator, largest: int = 110) -> np.ndarray:
    cy, cx = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
    ry, rx = rng.uniform(2, largest / 2, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    mask[int(np.clip(cy, 0, HEIGHT - 1)), int(np.clip(cx, 0, WIDTH - 1))] = True
    return mask


def annotation(number: int, image_id: int, category_id: int, mask: np.ndarray, **other: Any) -> dict[str, Any]:
    rle = encode(mask)
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "segmentation": rle, "iscrowd": 0,
        "bbox": coco_mask.toBbox(rle).tolist(), "area": float(coco_mask.area(rle)), **other,
    }  # fmt: skip


def random_truth(rng: np.random.Generator, num_images: int = 4, objects: int = 6) -> dict[str, Any]:
    """Polygons, both kinds of RLE, crowds, an image without objects and a category without objects."""
    annotations: list[dict[str, Any]] = []
    for image_id in range(10, 10 + num_images - 1):
        for _ in range(objects):
            one = annotation(len(annotations) + 1, image_id, int(rng.choice([2, 5, 7])), random_mask(rng))
            kind = rng.integers(4)
            if kind == 0:
                x, y, w, h = one["bbox"]
                one["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h], [x, y + h, x + w, y + h, x + w / 2, y]]
                one["area"] = w * h * 0.6
            elif kind == 1:
                flat = coco_mask.decode(one["segmentation"]).flatten(order="F")
                changes = np.flatnonzero(np.diff(flat)) + 1
                runs = np.diff([0, *changes, flat.size]).tolist()
                one["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [0, *runs] if flat[0] else runs}
            elif kind == 2:
                one["iscrowd"] = int(rng.random() < 0.6)
            annotations.append(one)
    return {
        "images": [{"id": 10 + i, "height": HEIGHT, "width": WIDTH} for i in range(num_images)],
        "categories": [{"id": i, "name": name} for i, name in ((7, "c"), (2, "a"), (5, "b"), (9, "unused"))],
        "annotations": annotations,
    }


def random_results(
    rng: np.random.Generator, truth: dict[str, Any], extra: int = 8, copies: int = 2
) -> list[dict[str, Any]]:
    """Shifted copies of the objects, and false positives; scores on a coarse grid, so that there are ties."""
    rows = []
    heights = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = [category["id"] for category in truth["categories"]]
    for one in truth["annotations"] * copies:
        size = heights[one["image_id"]]
        segmentation = one["segmentation"]
        if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *size)
        merged = coco_mask.merge(segmentation) if isinstance(segmentation, list) else segmentation
        shifted = np.roll(coco_mask.decode(merged), tuple(rng.integers(-6, 7, 2)), (0, 1))
        category = one["category_id"] if rng.random() < 0.8 else int(rng.choice(categories))
        rows.append((one["image_id"], category, shifted))
    for image in truth["images"]:
        mask = np.zeros((image["height"], image["width"]), dtype=bool)
        for _ in range(extra):
            y, x, h, w = rng.integers(1, 100, 4)
            noise = mask.copy()
            noise[y : y + h, x : x + w] = True
            rows.append((image["id"], int(rng.choice(categories)), noise))
    results = []
    for image_id, category_id, mask in rows:
        rle = encode(mask)
        box = (coco_mask.toBbox(rle) + rng.normal(0, 0.5, 4)).tolist()
        score = round(float(rng.random()), 2)
        results.append(
            {"image_id": image_id, "category_id": category_id, "bbox": box, "segmentation": rle, "score": score}
        )
    return results


def official(truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str, limits: Sequence[int]) -> COCOeval:
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), iou_type)
        evaluator.params.maxDets = list(limits)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def truth_as_results(truth: dict[str, Any]) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{**{key: one[key] for key in keys}, "score": 0.9} for one in truth["annotations"] if not one["iscrowd"]]


def values(table: Any) -> list[float]:
    return [-1 if getattr(table, name) is None else getattr(table, name) for name in SUMMARY]


@dataclass
class StubInstances:
    """The one method of Instances that the evaluator uses."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        return [{**row, "image_id": image_id} for row in self.rows]


@pytest.fixture
def truth() -> dict[str, Any]:
    return random_truth(np.random.default_rng(0))


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
    for iou_type, table in (("bbox", metrics.box), ("segm", metrics.mask)):
        arrays = official(truth, results, iou_type, limits).eval
        precision, recall = arrays["precision"][..., 0, -1], arrays["recall"][..., 0, :]
        assert precision[precision > -1].mean() == table.AP
        assert precision[0][precision[0] > -1].mean() == table.AP50
        assert precision[5][precision[5] > -1].mean() == table.AP75
        assert precision[:, :, 1].mean() == table.per_class["b"].AP
        assert precision[0, :, 1].mean() == table.per_class["b"].AP50
        assert {limit: recall[..., m][recall[..., m] > -1].mean() for m, limit in enumerate(limits)} == table.AR
        assert table.AR_max == table.AR[limits[-1]]
    assert evaluate_coco(truth, results, max_detections=limits[-1:], backend=backend).mask.AP == metrics.mask.AP


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
    assert evaluate_coco(truth, results, max_detections=(1, 10, 400)).mask.AP == 1.0
    assert evaluate_coco(truth, results).mask.AR_max == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("first_id", [0, 1])
def test_truth_as_predictions_is_perfect(truth: dict[str, Any], first_id: int, backend: Any) -> None:
    for number, one in enumerate(truth["annotations"]):
        one["id"] = number + first_id
    metrics = evaluate_coco(truth, truth_as_results(truth), backend=backend)
    for table in (metrics.box, metrics.mask):
        assert table.AP == table.AP50 == table.AP75 == table.AR_max == 1.0
        assert table.per_class["unused"].AP is None
        assert table.per_class["unused"].num_objects == 0
        assert sum(one.num_objects for one in table.per_class.values()) == len(truth_as_results(truth))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_results_is_zero(truth: dict[str, Any], backend: Any) -> None:
    metrics = evaluate_coco(truth, [], backend=backend)
    for table in (metrics.box, metrics.mask):
        assert (table.AP, table.AP50, table.AR_1, table.AR_max, table.per_class["a"].AP) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("left_out", ["annotations", "images", "categories", "all but crowds"])
def test_no_ground_truth_is_none(truth: dict[str, Any], left_out: str, backend: Any) -> None:
    results = truth_as_results(truth)
    if left_out == "all but crowds":
        truth["annotations"] = [one for one in truth["annotations"] if one["iscrowd"]]
        assert truth["annotations"]
    else:
        truth[left_out] = []
    metrics = evaluate_coco(truth, results if left_out in ("annotations", "all but crowds") else [], backend=backend)
    for table in (metrics.box, metrics.mask):
        assert values(table) == [-1] * len(SUMMARY)
        assert all(one.AP is None for one in table.per_class.values())
    assert "-" in metrics.as_text()


@pytest.mark.parametrize("backend", BACKENDS)
def test_image_ids_choose_what_counts(truth: dict[str, Any], backend: Any) -> None:
    results = [row for row in truth_as_results(truth) if row["image_id"] == 10]
    whole = evaluate_coco(truth, results, backend=backend)
    assert whole.mask.AR_max < 1
    assert whole.num_images == 4
    one = evaluate_coco(truth, truth_as_results(truth), image_ids=[10], backend=backend)
    assert one.mask.AP == 1.0
    assert one.num_images == 1
    assert sum(c.num_objects for c in one.mask.per_class.values()) == len(results)
    assert evaluate_coco(truth, results, image_ids=[], backend=backend).mask.AP is None


def test_boxes_are_ranked_by_class_score(truth: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    rows = random_results(rng, truth)
    for row in rows:
        row["class_score"] = float(rng.random())
    metrics = evaluate_coco(truth, rows)
    by_class = [{**row, "score": row["class_score"]} for row in rows]
    assert values(metrics.box) == official(truth, by_class, "bbox", (1, 10, 100)).stats.tolist()
    assert values(metrics.mask) == official(truth, rows, "segm", (1, 10, 100)).stats.tolist()


def test_annotations_without_optional_keys(truth: dict[str, Any]) -> None:
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    results = truth_as_results(truth)
    for one in truth["annotations"]:
        if isinstance(one["segmentation"], dict):
            del one["bbox"], one["area"], one["iscrowd"]
    metrics = evaluate_coco(truth, results)
    assert metrics.box.AP == metrics.mask.AP == 1.0


def test_boxes_alone_need_no_masks(truth: dict[str, Any]) -> None:
    results = truth_as_results(truth)
    for row in (*truth["annotations"], *results):
        del row["segmentation"]
    metrics = evaluate_coco(truth, results, iou_types=("bbox",))
    assert metrics.mask is None
    assert metrics.box.AP == 1.0
    assert list(metrics.to_dict()) == ["num_images", "max_detections", "box"]


def test_polygons_too_thin_to_draw_are_missed_objects(truth: dict[str, Any]) -> None:
    results = truth_as_results(truth)
    truth["annotations"].append(
        {**truth["annotations"][0], "id": 999, "iscrowd": 0, "segmentation": [[1.0, 1.0, 5.0, 5.0]]}
    )
    assert evaluate_coco(truth, results, iou_types=("segm",)).mask.AR_max < 1


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
        (having(segmentation={"size": [5, 5], "counts": [25]}), r"results\[2\].*size \[120, 150\], got \[5, 5\]"),
        (having(segmentation={"size": [120, 150], "counts": [25]}), r"results\[2\].*18000 pixels, got 25"),
    ],
)
def test_bad_result_rows_are_named(truth: dict[str, Any], change: Any, message: str) -> None:
    results = truth_as_results(truth)
    change(results[2])
    with pytest.raises(DataError, match=message):
        evaluate_coco(truth, results)


def test_only_the_first_unknown_ids_are_listed(truth: dict[str, Any]) -> None:
    results = [{**truth_as_results(truth)[0], "image_id": 1000 + i} for i in range(8)]
    with pytest.raises(DataError, match=r"1000, 1001, 1002, 1003, 1004 and 3 more"):
        evaluate_coco(truth, results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth.pop("images"), "key 'images'"),
        (lambda truth: truth.pop("categories"), "key 'categories'"),
        (lambda truth: truth["images"][1].pop("id"), r"images\[1\].*key 'id'"),
        (lambda truth: truth["images"][1].update(id="12"), r"images\[1\].*got '12'"),
        (lambda truth: truth["annotations"][3].pop("category_id"), "annotation id 4: key 'category_id'"),
        (lambda truth: truth["annotations"][3].pop("segmentation"), "annotation id 4: key 'segmentation'"),
        (lambda truth: truth["annotations"][3].update(bbox=[]), "annotation id 4: .*four finite numbers"),
        (lambda truth: truth["annotations"][3].update(segmentation={"counts": "x"}), "annotation id 4: .*RLE"),
    ],
)
def test_bad_ground_truth_is_named(truth: dict[str, Any], change: Any, message: str) -> None:
    change(truth)
    with pytest.raises(DataError, match=message):
        evaluate_coco(truth, [])


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


def test_metrics_as_json_text_and_rows(truth: dict[str, Any]) -> None:
    truth["categories"].append({"id": 11, "name": "a"})
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
        for iou_type, table in (("bbox", metrics.box), ("segm", metrics.mask)):
            results = json.loads(saved[iou_type].read_text())
            assert len(results) == len(rows)
            assert values(table) == official(truth, results, iou_type, (1, 10, 100)).stats.tolist()
        assert evaluate_coco(path, saved) == metrics
        assert evaluate_coco(path, evaluator.results) == metrics
        assert evaluator.evaluate(backend="pycocotools") == metrics

    def test_predicted_instances(self, truth: dict[str, Any]) -> None:
        masks = torch.from_numpy(np.stack([random_mask(np.random.default_rng(seed)) for seed in range(2)]))
        truth["annotations"] = [
            annotation(1, 10, 2, masks[0].numpy(), bbox=[10.0, 10.0, 20.0, 30.0]),
            annotation(2, 10, 7, masks[1].numpy(), bbox=[40.0, 10.0, 30.0, 30.0]),
        ]
        evaluator = self.evaluator(truth)
        found = Instances(
            boxes=torch.tensor([[10.0, 10, 30, 40], [40, 10, 70, 40]]),
            labels=torch.tensor([0, 2]),
            class_scores=torch.tensor([0.75, 0.5]),
            mask_scores=torch.tensor([0.5, 0.5]),
            masks=masks,
            image_size=(HEIGHT, WIDTH),
            class_names=("a", "b", "c", "unused"),
        )
        evaluator.update(10, found)
        metrics = evaluator.evaluate()
        assert metrics.box.AP == metrics.mask.AP == pytest.approx(1.0, abs=1e-12)
        assert [row["score"] for row in evaluator.results["bbox"]] == [0.75, 0.5]
        assert [row["score"] for row in evaluator.results["segm"]] == [0.375, 0.25]
        assert [row["category_id"] for row in evaluator.results["segm"]] == [2, 7]

    def test_images_not_seen_are_missed_unless_asked(self, truth: dict[str, Any]) -> None:
        evaluator = self.evaluator(truth, max_detections=400)
        self.fill(evaluator, truth_as_results(truth), [10, 13])
        assert evaluator.image_ids == (10, 13)
        assert evaluator.evaluate().mask.AR_max < 1
        seen = evaluator.evaluate(seen_only=True)
        assert seen.mask.AP == 1.0
        assert seen.max_detections == (1, 10, 400)
        assert seen.num_images == 2

    def test_nothing_seen(self, truth: dict[str, Any], tmp_path: Path) -> None:
        evaluator = self.evaluator(truth)
        assert evaluator.evaluate().mask.AP == 0
        assert evaluator.evaluate(seen_only=True).mask.AP is None
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
        assert metrics.box.AP == metrics.mask.AP == 1.0
        assert len(metrics.mask.per_class) == 80

    def test_random_predictions_equal_official(self, path: Path, tmp_path: Path) -> None:
        truth = json.loads(path.read_text())
        results = random_results(np.random.default_rng(0), truth, extra=10, copies=1)
        saved = tmp_path / "results.json"
        saved.write_text(json.dumps(results))
        expected = [official(truth, results, iou_type, (1, 10, 100)).stats.tolist() for iou_type in ("bbox", "segm")]
        for backend in BACKENDS:
            metrics = evaluate_coco(path, saved, backend=backend)  # type: ignore[arg-type]
            assert [values(metrics.box), values(metrics.mask)] == expected
