"""How well scores predict mask quality: rank correlation, error, calibration, and the AP of ranking by each score.

The question is that of Mask Scoring R-CNN (Huang et al. 2019, https://arxiv.org/abs/1903.00241): section 1 shows that a
class score says little about the IoU of the mask, section 3 multiplies it by an estimate of that IoU, and section 4.5
measures how well the estimate correlates with the truth. Three scores are judged here: the class score, the mask score
(the estimate), and their product, by which masks are ranked. A model without mask scores is judged by its class score.

**Measured IoU** of a detection: the highest IoU of its mask, in the frame of the original image, with an object of its
class in that image, crowds excepted; 0 where there is none. Two detections of one object each keep their overlap: the
score of a mask estimates its quality, not whether another detection came first. A detection of the wrong class measures
0, for a mask belongs to one class (section 3.1).

**Left out**: detections whose mask lies by half or more of its area in the crowd regions of its class, unless an object
explains them (IoU of 0.5 or more); what they ought to score cannot be known.

**Populations**: ``all`` is every detection with a class score above a limit, 0.05 by default, false
positives included. This is what a user of the model meets. ``matched`` are those of them with a measured IoU of 0.5 or
more, the ones that the IoU estimate is trained for. The second choice looks at the truth, which no user can do; and a
high limit of the class score would hide most of what the class score knows. So the limit is low, the same detections
are used for all scores, and both populations are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError, DataError
from protomask.evaluation.coco import evaluate_coco
from protomask.evaluation.match import prepare_results
from protomask.evaluation.quality_report import MATCHED_IOU, Floats, QualityReport, RankedAP, judge_population
from protomask.evaluation.rows import fit_row
from protomask.evaluation.truth import GroundTruth, Row, TruthSource
from protomask.structures.coco_json import finite_number, shown, whole_number

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

_MAX_PAIRS = 1 << 22  # of masks that are compared at a time
CROWD_SHARE = 0.5
"""Part of a detection's area from which it belongs to a crowd region."""


class Measured(NamedTuple):
    """Detections and their measured IoU, (N,) each; ``mask_scores`` None where the model has none."""

    image_ids: NDArray[np.int64]
    class_scores: Floats
    mask_scores: Floats | None
    ious: Floats
    left_out: NDArray[np.bool_]


class QualityMeter:
    """Collects detections image by image and compares their scores with the measured IoU of their masks.

    Masks are kept and compared as RLE, never dense. What is measured, and of which detections, stands at the top of
    this module.

    Args:
        ground_truth: as for `protomask.evaluation.coco.CocoEvaluator`.
        category_ids: category id of each label (index = label), which `update` needs.
        min_class_score: detections count for correlation and calibration if their class score is above this, [0, 1).
            AP always counts all of them.
        max_detections: detections per image and category that count for AP.

    Raises:
        DataError: the ground truth cannot be read, or has no category of an id in ``category_ids``.
        ConfigError: ``min_class_score`` or ``max_detections`` is out of range.

    """

    def __init__(
        self,
        ground_truth: TruthSource,
        *,
        category_ids: Sequence[int] = (),
        min_class_score: float = 0.05,
        max_detections: int = 100,
    ) -> None:
        if not 0 <= min_class_score < 1:
            raise ConfigError(f"min_class_score: expected a number from 0 to below 1, got {min_class_score}")
        if max_detections < 1:
            raise ConfigError(f"max_detections: expected at least 1, got {max_detections}")
        self._truth = GroundTruth.load(ground_truth, masks=True)
        self._truth.check_categories(category_ids)
        self.category_ids = tuple(category_ids)
        self.min_class_score = min_class_score
        self.max_detections = max_detections
        self._objects: dict[tuple[int, int], list[Row]] = defaultdict(list)
        self._crowds: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for annotation in self._truth.annotations:
            group = self._crowds if annotation["iscrowd"] else self._objects
            group[annotation["image_id"], annotation["category_id"]].append(annotation["segmentation"])
        self._image_ids: dict[int, None] = {}
        self.rows: list[Row] = []
        """COCO result rows of what was taken; ``score`` is the product."""
        self._class_scores: list[float] = []
        self._mask_scores: list[float] = []
        self._has_mask_scores: bool | None = None
        self._ious: list[float] = []
        self._left_out: list[bool] = []

    @property
    def truth(self) -> GroundTruth:
        """What the detections are compared with."""
        return self._truth

    def update(self, image_id: int, instances: Instances, *, rles: Sequence[Row] | None = None) -> None:
        """Take the predictions for one image; an image without any instance is seen as well.

        Args:
            image_id: id in the annotation file.
            instances: N instances in the original frame.
            rles: the N masks as COCO RLE in the same order, if they are at hand: encoding is most of the work.

        Raises:
            DataError: the annotation file has no such image, it was given before, its size is another, the labels have
                no category id, a score is not finite, or some images have mask scores and others do not.

        """
        if image_id not in self._truth.images:
            raise DataError(f"{self._truth.source}: no image with id {image_id}")
        if image_id in self._image_ids:
            raise DataError(f"image id {image_id} was given twice; its predictions would be counted twice")
        if len(instances.class_names) > len(self.category_ids):
            raise DataError(
                f"category_ids: expected one for each of {len(instances.class_names)} classes, "
                f"got {len(self.category_ids)}"
            )
        encoded = instances.rle() if rles is None else rles
        if len(encoded) != len(instances):
            raise DataError(f"rles: expected {len(instances)}, one for each instance, got {len(encoded)}")
        columns = zip(instances.labels.tolist(), instances.scores.tolist(), encoded, strict=True)
        rows = [
            fit_row(
                {"image_id": image_id, "category_id": self.category_ids[label], "score": score, "segmentation": rle},
                (int(rle["size"][0]), int(rle["size"][1])),
                self._truth.size_of(image_id),
            )
            for label, score, rle in columns
        ]
        mask_scores = None if instances.mask_scores is None else instances.mask_scores.tolist()
        self._take(rows, prepare_results(rows, self._truth, "segm"), instances.class_scores.tolist(), mask_scores)
        self._image_ids[image_id] = None

    def update_rows(self, rows: Sequence[Row]) -> None:
        """Take COCO result rows with masks, of any images.

        Rows with a ``class_score`` have the product in ``score``, as `Instances.to_coco` writes them; the mask score is
        then their quotient. In rows without, ``score`` is taken for a class score.

        Raises:
            DataError: a row lacks a key, is of an unknown image or category, or has a score that is not finite; some
                rows have a class score and others do not; or an image was given before.

        """
        for image_id in {whole_number(row.get("image_id")) for row in rows}:
            if image_id in self._image_ids:
                raise DataError(f"image id {image_id} was given twice; its predictions would be counted twice")
        having = sum("class_score" in row for row in rows)
        if having not in (0, len(rows)):
            raise DataError(f"results: expected a class_score in all rows or in none, got {having} of {len(rows)}")
        kept = ("image_id", "category_id", "score", "segmentation")
        mask_rows = [{key: row.get(key) for key in kept} for row in rows]
        prepared = prepare_results(mask_rows, self._truth, "segm")
        if having:
            class_scores = [_number(row["class_score"], index) for index, row in enumerate(rows)]
            products = np.array([row["score"] for row in prepared], dtype=np.float64)
            divisors = np.array(class_scores, dtype=np.float64)
            quotients = np.divide(products, divisors, out=np.zeros_like(products), where=divisors != 0)
            # Models score in float32: rounding to it makes equal mask scores equal again.
            mask_scores = quotients.astype(np.float32).tolist()
        else:
            class_scores, mask_scores = [row["score"] for row in prepared], None
        self._take(mask_rows, prepared, class_scores, mask_scores)
        self._image_ids.update(dict.fromkeys(row["image_id"] for row in prepared))

    def measured(self) -> Measured:
        """Everything that was taken, in the order of ``rows``."""
        return Measured(
            np.array([row["image_id"] for row in self.rows], dtype=np.int64),
            np.array(self._class_scores, dtype=np.float64),
            np.array(self._mask_scores, dtype=np.float64) if self._has_mask_scores else None,
            np.array(self._ious, dtype=np.float64),
            np.array(self._left_out, dtype=np.bool_),
        )

    def compute(self, *, seen_only: bool = False) -> QualityReport:
        """The report on all that was taken.

        Args:
            seen_only: AP counts only images that were given. By default the whole annotation file counts, and the
                objects of an image that was never given are missed.

        """
        has_mask_scores = bool(self._has_mask_scores)
        class_scores = np.array(self._class_scores, dtype=np.float64)
        values = {"class_score": class_scores}
        if has_mask_scores:
            values["mask_score"] = np.array(self._mask_scores, dtype=np.float64)
            values["product"] = np.array([row["score"] for row in self.rows], dtype=np.float64)
        ious = np.array(self._ious, dtype=np.float64)
        left_out = np.array(self._left_out, dtype=np.bool_)
        above = class_scores > self.min_class_score
        counted = above & ~left_out
        image_ids = sorted(self._image_ids) if seen_only else sorted(self._truth.images)
        return QualityReport(
            num_images=len(image_ids),
            num_detections=len(self.rows),
            num_left_out=int((above & left_out).sum()),
            min_class_score=self.min_class_score,
            has_mask_scores=has_mask_scores,
            populations={
                "all": judge_population(values, ious, counted),
                "matched": judge_population(values, ious, counted & (ious >= MATCHED_IOU)),
            },
            mask_ap={
                name: self._average_precision(values[name], image_ids)
                for name in ("class_score", "product")
                if name in values
            },
        )

    def _take(
        self,
        rows: Sequence[Row],
        prepared: Sequence[Row],
        class_scores: Sequence[float],
        mask_scores: Sequence[float] | None,
    ) -> None:
        ious, left_out = self._measure(prepared)
        has_mask_scores = mask_scores is not None
        if rows:
            if self.rows and self._has_mask_scores != has_mask_scores:
                raise DataError(f"image id {rows[0]['image_id']}: expected mask scores for all images or for none")
            self._has_mask_scores = has_mask_scores
        elif self._has_mask_scores is None and has_mask_scores:
            self._has_mask_scores = True
        self.rows.extend(rows)
        self._class_scores.extend(class_scores)
        self._mask_scores.extend(mask_scores or ())
        self._ious.extend(ious.tolist())
        self._left_out.extend(left_out.tolist())

    def _measure(self, rows: Sequence[Row]) -> tuple[Floats, NDArray[np.bool_]]:
        """Measured IoU (N,) of each row, and (N,) whether it is left out."""
        from pycocotools import mask as coco_mask

        ious, left_out = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
        members: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            members[row["image_id"], row["category_id"]].append(index)
        for key, indices in members.items():
            masks = [rows[index]["segmentation"] for index in indices]
            if objects := self._objects.get(key):
                step = max(1, _MAX_PAIRS // len(objects))
                for start in range(0, len(masks), step):
                    overlaps = np.asarray(coco_mask.iou(masks[start : start + step], objects, [0] * len(objects)))
                    ious[indices[start : start + step]] = overlaps.max(axis=1)
            if crowds := self._crowds.get(key):
                # As one region: half of the detection may lie in several crowds together.
                shares = np.asarray(coco_mask.iou(masks, [coco_mask.merge(crowds)], [1]))[:, 0]
                left_out[indices] = (shares >= CROWD_SHARE) & (ious[indices] < MATCHED_IOU)
        return ious, left_out

    def _average_precision(self, scores: Floats, image_ids: Sequence[int]) -> RankedAP:
        rows = [{**row, "score": score} for row, score in zip(self.rows, scores.tolist(), strict=True)]
        limits = (self.max_detections,)
        metrics = evaluate_coco(self._truth, rows, iou_types=("segm",), max_detections=limits, image_ids=image_ids)
        table = metrics.tables["mask"]
        return RankedAP(AP=table.AP, AP50=table.AP50, AP75=table.AP75)


def _number(value: Any, index: int) -> float:
    number = finite_number(value)
    if number is None:
        raise DataError(f"results[{index}]: expected a finite class_score, got {shown(value)}")
    return number
