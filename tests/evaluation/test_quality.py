from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from protomask.errors import ConfigError, DataError
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.quality_report import QualityReport
from protomask.structures.instances import Instances

HEIGHT, WIDTH = 20, 30
CATEGORIES = (3, 8)

Box = tuple[int, int, int, int]  # x, y, w, h


def mask_of(box: Box) -> np.ndarray:
    x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def encode(box: Box) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask_of(box)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def truth_of(*objects: tuple[int, int, Box, int]) -> dict[str, Any]:
    """Objects are (image id, category id, box, is crowd); images are 1 and 2."""
    return {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in (1, 2)],
        "categories": [{"id": 3, "name": "disk"}, {"id": 8, "name": "star"}],
        "annotations": [
            {
                "id": number, "image_id": image_id, "category_id": category, "bbox": list(box),
                "area": box[2] * box[3], "iscrowd": crowd, "segmentation": encode(box),
            }
            for number, (image_id, category, box, crowd) in enumerate(objects, start=1)
        ],
    }  # fmt: skip


def found(*detections: tuple[int, Box, float, float | None]) -> Instances:
    """Detections are (label, box, class score, mask score or None)."""
    boxes = np.array([box for _, box, *_ in detections], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    mask_scores = [score for *_, score in detections if score is not None]
    return Instances(
        boxes=boxes,
        labels=np.array([label for label, *_ in detections], dtype=np.int64),
        class_scores=np.array([score for *_, score, _ in detections], dtype=np.float32),
        mask_scores=np.array(mask_scores, dtype=np.float32) if mask_scores else None,
        masks=np.array([mask_of(box) for _, box, *_ in detections], dtype=np.bool_).reshape(-1, HEIGHT, WIDTH),
        image_size=(HEIGHT, WIDTH),
        class_names=("disk", "star"),
    )


def report_on(
    truth: dict[str, Any], *detections: tuple[int, Box, float, float | None], **options: Any
) -> QualityReport:
    meter = QualityMeter(truth, category_ids=CATEGORIES, **options)
    meter.update(1, found(*detections))
    return meter.compute(seen_only=True)


OBJECT: Box = (0, 0, 10, 10)
HALF: Box = (0, 0, 5, 10)  # IoU 0.5 with OBJECT
QUARTER: Box = (0, 0, 5, 5)
FAR: Box = (20, 10, 5, 5)


class TestMeasuredIou:
    @pytest.mark.parametrize(
        ("label", "box", "iou"),
        [
            (0, OBJECT, 1.0),
            (0, HALF, 0.5),
            (0, QUARTER, 0.25),
            (0, FAR, 0.0),
            (0, (0, 0, 0, 0), 0.0),
            (1, OBJECT, 0.0),  # the wrong class
        ],
    )
    def test_of_one_detection(self, label: int, box: Box, iou: float) -> None:
        report = report_on(truth_of((1, 3, OBJECT, 0), (2, 8, OBJECT, 0)), (label, box, 0.9, None))
        assert report.populations["all"].mean_iou == pytest.approx(iou)
        assert report.populations["matched"].count == (iou >= 0.5)

    def test_the_best_object_counts_and_duplicates_keep_their_iou(self) -> None:
        truth = truth_of((1, 3, QUARTER, 0), (1, 3, OBJECT, 0))
        report = report_on(truth, (0, OBJECT, 0.9, None), (0, OBJECT, 0.8, None))
        assert report.populations["all"].mean_iou == 1.0

    @pytest.mark.parametrize(
        ("box", "left_out"),
        [((15, 0, 10, 10), 1), ((10, 0, 10, 10), 1), ((9, 0, 10, 10), 0), ((0, 0, 2, 2), 0)],
    )
    def test_crowds_excuse_what_lies_half_in_them(self, box: Box, left_out: int) -> None:
        report = report_on(truth_of((1, 3, (15, 0, 15, 20), 1)), (0, box, 0.9, None))
        assert report.num_left_out == left_out
        assert report.populations["all"].count == 1 - left_out

    def test_crowds_excuse_neither_matches_nor_other_classes(self) -> None:
        truth = truth_of((1, 3, OBJECT, 0), (1, 3, (0, 0, 20, 20), 1))
        report = report_on(truth, (0, HALF, 0.9, None), (1, HALF, 0.9, None), (0, QUARTER, 0.9, None))
        assert report.num_left_out == 1
        assert report.populations["all"].count == 2
        assert report.populations["all"].mean_iou == 0.25
        assert report.populations["matched"].count == 1

    def test_two_crowds_are_one_region(self) -> None:
        truth = truth_of((1, 3, (0, 0, 3, 20), 1), (1, 3, (7, 0, 3, 20), 1))
        assert report_on(truth, (0, (0, 0, 10, 10), 0.9, None)).num_left_out == 1


class TestReport:
    truth = truth_of((1, 3, OBJECT, 0), (1, 8, (15, 0, 10, 10), 0))

    def test_worked_out_by_hand(self) -> None:
        report = report_on(
            self.truth,
            (0, OBJECT, 0.5, 1.0),  # IoU 1, product 0.5
            (0, HALF, 0.75, 0.5),  # IoU 0.5, product 0.375
            (0, FAR, 1.0, 0.25),  # IoU 0, product 0.25
            (1, (15, 0, 10, 10), 0.0, 1.0),  # below the limit
        )
        everything, matched = report.populations["all"], report.populations["matched"]
        assert (everything.count, matched.count, report.num_detections) == (3, 2, 4)
        assert everything.mean_iou == 0.5
        assert everything.class_score.spearman == matched.class_score.spearman == -1.0
        assert everything.mask_score is not None
        assert everything.product is not None
        assert everything.mask_score.spearman == everything.product.spearman == 1.0
        assert everything.mask_score.mean_absolute_error == pytest.approx(0.25 / 3)
        assert everything.product.mean_absolute_error == pytest.approx((0.5 + 0.125 + 0.25) / 3)
        assert everything.class_score.mean_absolute_error == pytest.approx((0.5 + 0.25 + 1) / 3)
        assert everything.class_score.calibration_error == pytest.approx((0.5 + 0.25 + 1) / 3)
        assert report.score_names == ["class score", "mask score", "product"]
        assert report.rows("matched")[0] == ("Spearman correlation", [-1.0, 1.0, 1.0])
        assert report.bin_rows("all", "product") == [
            ("0.2-0.3", 1, 0.25, 0.0), ("0.3-0.4", 1, 0.375, 0.5), ("0.5-0.6", 1, 0.5, 1.0)
        ]  # fmt: skip

    def test_ranking_by_the_product_changes_ap(self) -> None:
        # A false positive with the highest class score, which the mask score puts last.
        truth = truth_of((1, 3, OBJECT, 0))
        detections = found((0, FAR, 0.9, 0.1), (0, OBJECT, 0.5, 0.9))
        meter = QualityMeter(truth, category_ids=CATEGORIES)
        meter.update(1, detections)
        report = meter.compute()
        assert pytest.approx(0.5) == report.mask_ap["class_score"].AP
        assert report.mask_ap["product"].AP == report.ap_rows()[0][1][1] == pytest.approx(1.0)
        # COCO results rank boxes by the class score and masks by the product, as the official YOLACT++ does.
        evaluator = CocoEvaluator(truth, category_ids=CATEGORIES)
        evaluator.update(1, detections)
        metrics = evaluator.evaluate()
        assert metrics.box is not None
        assert metrics.mask is not None
        assert pytest.approx(0.5) == metrics.tables["box"].AP
        assert metrics.tables["mask"].AP == report.mask_ap["product"].AP
        assert [row["score"] for row in evaluator.results["bbox"]] == pytest.approx([0.9, 0.5])
        assert [row["score"] for row in evaluator.results["segm"]] == pytest.approx([0.09, 0.45])

    def test_model_without_mask_scores(self) -> None:
        report = report_on(self.truth, (0, OBJECT, 0.5, None), (0, FAR, 0.75, None))
        everything = report.populations["all"]
        assert not report.has_mask_scores
        assert everything.mask_score is everything.product is None
        assert everything.class_score.spearman == -1.0
        assert list(report.mask_ap) == ["class_score"]
        assert report.score_names == ["class score"]
        assert report.bin_rows("all", "product") == []
        content = report.to_dict()
        assert content["all"]["product"] is content["mask_ap"]["product"] is None

    @pytest.mark.parametrize("truth", [truth_of(), truth_of((1, 3, OBJECT, 0))], ids=["no truth", "truth"])
    @pytest.mark.parametrize("detections", [(), ((0, FAR, 0.9, 0.5),)], ids=["nothing found", "found"])
    def test_little_to_tell(self, truth: dict[str, Any], detections: Any) -> None:
        report = report_on(truth, *detections)
        assert report.populations["all"].class_score.spearman is None
        assert report.populations["all"].mean_iou == (0.0 if detections else None)
        assert (0.0 if truth["annotations"] else None) == report.mask_ap["class_score"].AP
        json.dumps(report.to_dict(), allow_nan=False)

    def test_json_types(self) -> None:
        report = report_on(self.truth, (0, OBJECT, 0.5, 1.0), (0, HALF, 0.75, 0.5))
        content = report.to_dict()
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        assert list(content["all"]) == ["count", "mean_iou", "class_score", "mask_score", "product"]
        assert len(content["matched"]["product"]["bins"]) == 10
        assert content["min_class_score"] == 0.05

    def test_images_not_seen_are_missed_unless_asked(self) -> None:
        meter = QualityMeter(truth_of((1, 3, OBJECT, 0), (2, 3, OBJECT, 0)), category_ids=CATEGORIES)
        meter.update(1, found((0, OBJECT, 0.9, None)))
        assert pytest.approx(1.0) == meter.compute(seen_only=True).mask_ap["class_score"].AP50
        whole = meter.compute()
        assert whole.num_images == 2
        assert pytest.approx(51 / 101) == whole.mask_ap["class_score"].AP50

    def test_empty_images_do_not_decide_whether_there_are_mask_scores(self) -> None:
        meter = QualityMeter(self.truth, category_ids=CATEGORIES)
        meter.update(2, found())
        meter.update(1, found((0, OBJECT, 0.5, 1.0)))
        assert meter.compute().has_mask_scores


class TestRows:
    truth = truth_of((1, 3, OBJECT, 0), (2, 8, OBJECT, 0))
    detections = ((0, OBJECT, 0.7, 0.9), (0, HALF, 0.6, 0.7), (0, QUARTER, 0.5, 0.7), (1, FAR, 0.3, 0.1))

    def test_are_read_as_instances_write_them(self) -> None:
        meter = QualityMeter(self.truth)
        meter.update_rows(found(*self.detections).to_coco(1, CATEGORIES))
        direct = QualityMeter(self.truth, category_ids=CATEGORIES)
        encoded = [dict(code) for code in found(*self.detections).rle()]
        direct.update(1, found(*self.detections), rles=encoded)
        for population in ("all", "matched"):
            for (_, one), (_, other) in zip(
                meter.compute().rows(population), direct.compute().rows(population), strict=True
            ):
                assert one == pytest.approx(other, abs=1e-6)

    def test_one_score_is_a_class_score(self) -> None:
        rows = found(*((*detection[:3], None) for detection in self.detections)).to_coco(1, CATEGORIES)
        meter = QualityMeter(self.truth)
        meter.update_rows(rows)
        report = meter.compute()
        assert not report.has_mask_scores
        assert report.populations["all"].count == 4

    def test_a_class_score_of_zero(self) -> None:
        meter = QualityMeter(self.truth)
        meter.update_rows(found((0, OBJECT, 0.0, 0.9)).to_coco(1, CATEGORIES))
        assert meter.compute().populations["all"].count == 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"class_score": None}, r"results\[1\]: expected a finite class_score, got None"),
            ({"class_score": float("inf")}, r"results\[1\]: expected a finite class_score, got inf"),
            ({"score": "high"}, r"results\[1\].*finite score"),
            ({"segmentation": None}, r"results\[1\]: key 'segmentation'"),
            ({"image_id": 77}, "image_id not in ground truth: 77"),
            ({"category_id": 77}, "category_id not in ground truth: 77"),
        ],
    )
    def test_bad_rows_are_named(self, change: dict[str, Any], message: str) -> None:
        rows = found(*self.detections).to_coco(1, CATEGORIES)
        rows[1].update(change)
        with pytest.raises(DataError, match=message):
            QualityMeter(self.truth).update_rows(rows)

    def test_class_scores_in_some_rows_alone(self) -> None:
        rows = found(*self.detections).to_coco(1, CATEGORIES)
        del rows[2]["class_score"]
        with pytest.raises(DataError, match="in all rows or in none, got 3 of 4"):
            QualityMeter(self.truth).update_rows(rows)


class TestErrors:
    truth = truth_of((1, 3, OBJECT, 0))

    def test_of_images(self) -> None:
        meter = QualityMeter(self.truth, category_ids=CATEGORIES)
        with pytest.raises(DataError, match="no image with id 99"):
            meter.update(99, found())
        meter.update(1, found((0, OBJECT, 0.5, 0.5)))
        with pytest.raises(DataError, match="image id 1 was given twice"):
            meter.update(1, found())
        with pytest.raises(DataError, match="image id 1 was given twice"):
            meter.update_rows(found((0, OBJECT, 0.5, 0.5)).to_coco(1, CATEGORIES))
        with pytest.raises(DataError, match="mask scores for all images or for none"):
            meter.update(2, found((0, OBJECT, 0.5, None)))
        with pytest.raises(DataError, match="rles: expected 1"):
            meter.update(2, found((0, OBJECT, 0.5, 0.5)), rles=[])
        with pytest.raises(DataError, match="finite score"):
            meter.update(2, found((0, OBJECT, 0.5, float("nan"))))

    def test_of_arguments(self) -> None:
        with pytest.raises(DataError, match="no category with id 4"):
            QualityMeter(self.truth, category_ids=(3, 4))
        with pytest.raises(ConfigError, match="min_class_score: expected a number from 0 to below 1, got 1"):
            QualityMeter(self.truth, min_class_score=1)
        with pytest.raises(ConfigError, match="max_detections"):
            QualityMeter(self.truth, max_detections=0)
        with pytest.raises(DataError, match="category_ids: expected one for each of 2 classes, got 0"):
            QualityMeter(self.truth).update(1, found())
