"""How well a model's scores tell the quality of its masks: rank correlation, error, calibration, and AP by each score.

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

**Populations**: ``all`` is every detection with a class score above a limit, 0.05 unless told otherwise, false
positives included. This is what a user of the model meets. ``matched`` are those of them with a measured IoU of 0.5 or
more, the ones that the IoU estimate is trained for. The second choice looks at the truth, which no user can do; and a
high limit of the class score would hide most of what the class score knows. So the limit is low, the same detections
are used for all scores, and both populations are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protomask.errors import ConfigError, DataError
from protomask.evaluation.evaluator import evaluate_coco
from protomask.evaluation.match import prepare_results
from protomask.evaluation.truth import GroundTruth, Row

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

Score = Literal["class_score", "mask_score", "product"]
Population = Literal["all", "matched"]
Floats = NDArray[np.float64]

SCORES: tuple[Score, ...] = ("class_score", "mask_score", "product")
NUM_BINS = 10
MATCHED_IOU = 0.5
"""Measured IoU from which a detection belongs to the population ``matched``."""

CROWD_SHARE = 0.5
"""Part of a detection's area from which it belongs to a crowd region."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The detections whose score is in [lower, upper), the last bin closed; scores outside 0..1 are in the outer bins.

    Attributes:
        lower: in [0, 1].
        upper: in [0, 1].
        count: detections.
        mean_score: of these detections, None where there are none.
        mean_iou: mean measured IoU, None where there are none.

    """

    lower: float
    upper: float
    count: int
    mean_score: float | None
    mean_iou: float | None


@dataclass(frozen=True, kw_only=True)
class ScoreQuality:
    """How well one score tells the measured IoU; the first three are None where there are no detections.

    Attributes:
        spearman: rank correlation with the measured IoU in [-1, 1]; None also where either has but one value.
        mean_absolute_error: mean of abs(score - measured IoU).
        calibration_error: expected calibration error: mean over detections of
            abs(mean score - mean measured IoU) of their bin.
        bins: ten bins of equal width, the lowest first.

    """

    spearman: float | None
    mean_absolute_error: float | None
    calibration_error: float | None
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class PopulationQuality:
    """Every score of one population; ``mask_score`` and ``product`` are None where the model has no mask scores.

    Attributes:
        count: detections.
        mean_iou: mean measured IoU, None where there are none.
        class_score: the class score alone.
        mask_score: the estimate of the mask's IoU alone.
        product: both multiplied, `Instances.scores`.

    """

    count: int
    mean_iou: float | None
    class_score: ScoreQuality
    mask_score: ScoreQuality | None
    product: ScoreQuality | None

    def scores(self) -> dict[Score, ScoreQuality]:
        """The scores that the model has, by name."""
        named: dict[Score, ScoreQuality | None] = {
            "class_score": self.class_score,
            "mask_score": self.mask_score,
            "product": self.product,
        }
        return {name: quality for name, quality in named.items() if quality is not None}


@dataclass(frozen=True, kw_only=True)
class RankedAP:
    """COCO mask AP of all detections, ranked by one score; in [0, 1], None where there is no ground truth."""

    AP: float | None
    AP50: float | None
    AP75: float | None


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What `QualityMeter.compute` found.

    Attributes:
        num_images: images evaluated.
        num_detections: detections given, of any score.
        num_left_out: those with a class score above the limit that lie in crowd regions.
        min_class_score: limit of the class score, exclusive.
        has_mask_scores: the model estimates the IoU of its masks.
        populations: ``all`` and ``matched``.
        mask_ap: mask AP by ranking: ``class_score``, and ``product`` where the model has mask scores.

    """

    num_images: int
    num_detections: int
    num_left_out: int
    min_class_score: float
    has_mask_scores: bool
    populations: Mapping[Population, PopulationQuality]
    mask_ap: Mapping[Score, RankedAP]

    @property
    def score_names(self) -> list[str]:
        """Names of the scores that the model has, the columns of `rows`: class score, mask score, product."""
        return [name.replace("_", " ") for name in self.populations["all"].scores()]

    def rows(self, population: Population) -> list[tuple[str, list[float | None]]]:
        """(measure, one value per score in the order of `score_names`)."""
        scores = self.populations[population].scores().values()
        return [
            ("Spearman correlation", [score.spearman for score in scores]),
            ("mean absolute error", [score.mean_absolute_error for score in scores]),
            ("calibration error", [score.calibration_error for score in scores]),
        ]

    def ap_rows(self) -> list[tuple[str, list[float | None]]]:
        """(AP, AP50 or AP75, one value per ranking in the order of ``mask_ap``)."""
        return [(name, [getattr(ap, name) for ap in self.mask_ap.values()]) for name in ("AP", "AP50", "AP75")]

    def bin_rows(self, population: Population, score: Score) -> list[tuple[str, int, float | None, float | None]]:
        """(score range, detections, mean score, mean measured IoU) of the bins that are not empty."""
        judged = self.populations[population].scores().get(score)
        bins = () if judged is None else judged.bins
        return [(f"{b.lower:.1f}-{b.upper:.1f}", b.count, b.mean_score, b.mean_iou) for b in bins if b.count]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; a score that the model does not have is None."""
        return {
            "num_images": self.num_images,
            "num_detections": self.num_detections,
            "num_left_out": self.num_left_out,
            "min_class_score": self.min_class_score,
            "matched_iou": MATCHED_IOU,
            "has_mask_scores": self.has_mask_scores,
            **{
                name: {**asdict(one), **{score: _plain(getattr(one, score)) for score in SCORES}}
                for name, one in self.populations.items()
            },
            "mask_ap": {
                score: asdict(self.mask_ap[score]) if score in self.mask_ap else None
                for score in ("class_score", "product")
            },
        }


class QualityMeter:
    """Collects detections image by image and compares their scores with the measured IoU of their masks.

    Masks are kept and compared as RLE, never dense. What is measured, and of which detections, stands at the top of
    this module.

    Args:
        annotation_file: ground truth: path of a COCO instance JSON, or its content.
        category_ids: category id of each label (index = label), which `update` needs.
        min_class_score: detections count for correlation and calibration if their class score is above this, [0, 1).
            AP always counts all of them.
        max_detections: detections per image and category that count for AP.

    Raises:
        DataError: the annotation file cannot be read, or has no category of an id in ``category_ids``.
        ConfigError: ``min_class_score`` or ``max_detections`` is out of range.

    """

    def __init__(
        self,
        annotation_file: str | Path | Mapping[str, Any],
        *,
        category_ids: Sequence[int] = (),
        min_class_score: float = 0.05,
        max_detections: int = 100,
    ) -> None:
        if not 0 <= min_class_score < 1:
            raise ConfigError(f"min_class_score: expected a number from 0 to below 1, got {min_class_score}")
        if max_detections < 1:
            raise ConfigError(f"max_detections: expected at least 1, got {max_detections}")
        self._truth = GroundTruth.load(annotation_file, masks=True)
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
        self._rows: list[Row] = []  # score is the product
        self._class_scores: list[float] = []
        self._mask_scores: list[float] = []
        self._has_mask_scores: bool | None = None
        self._ious: list[float] = []
        self._left_out: list[bool] = []

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
            {"image_id": image_id, "category_id": self.category_ids[label], "score": score, "segmentation": rle}
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
        for image_id in dict.fromkeys(row.get("image_id") for row in rows):
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
        self._image_ids.update(dict.fromkeys(row["image_id"] for row in rows))

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
            values["product"] = np.array([row["score"] for row in self._rows], dtype=np.float64)
        ious = np.array(self._ious, dtype=np.float64)
        left_out = np.array(self._left_out, dtype=np.bool_)
        above = class_scores > self.min_class_score
        counted = above & ~left_out
        image_ids = sorted(self._image_ids) if seen_only else sorted(self._truth.images)
        return QualityReport(
            num_images=len(image_ids),
            num_detections=len(self._rows),
            num_left_out=int((above & left_out).sum()),
            min_class_score=self.min_class_score,
            has_mask_scores=has_mask_scores,
            populations={
                "all": _judge_population(values, ious, counted),
                "matched": _judge_population(values, ious, counted & (ious >= MATCHED_IOU)),
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
            if self._rows and self._has_mask_scores != has_mask_scores:
                raise DataError(f"image id {rows[0]['image_id']}: expected mask scores for all images or for none")
            self._has_mask_scores = has_mask_scores
        elif self._has_mask_scores is None and has_mask_scores:
            self._has_mask_scores = True
        self._rows.extend(rows)
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
                overlaps = np.asarray(coco_mask.iou(masks, objects, [0] * len(objects)))
                self._check_sizes(overlaps, key[0])
                ious[indices] = overlaps.max(axis=1)
            if crowds := self._crowds.get(key):
                # As one region: half of the detection may lie in several crowds together.
                shares = np.asarray(coco_mask.iou(masks, [coco_mask.merge(crowds)], [1]))[:, 0]
                self._check_sizes(shares, key[0])
                left_out[indices] = (shares >= CROWD_SHARE) & (ious[indices] < MATCHED_IOU)
        return ious, left_out

    def _check_sizes(self, overlaps: Floats, image_id: int) -> None:
        if (overlaps < 0).any():
            raise DataError(f"image id {image_id}: the masks found do not have the size of those in the annotations")

    def _average_precision(self, scores: Floats, image_ids: Sequence[int]) -> RankedAP:
        content = {
            "images": list(self._truth.images.values()),
            "categories": [{"id": key, "name": name} for key, name in self._truth.category_names.items()],
            "annotations": self._truth.annotations,
        }
        rows = [{**row, "score": score} for row, score in zip(self._rows, scores.tolist(), strict=True)]
        limits = (self.max_detections,)
        metrics = evaluate_coco(content, rows, iou_types=("segm",), max_detections=limits, image_ids=image_ids)
        table = metrics.tables["mask"]
        return RankedAP(AP=table.AP, AP50=table.AP50, AP75=table.AP75)


def spearman_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation: that of Pearson between ranks, equal values sharing their average rank.

    Args:
        first: (N,) finite numbers.
        second: (N,) finite numbers.

    Returns:
        In [-1, 1]; None where there are fewer than two pairs or one side has but one value.

    Raises:
        ConfigError: the lengths differ.

    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ConfigError(f"expected two sequences of one length, got shapes {one.shape} and {other.shape}")
    if len(one) < 2:
        return None
    a, b = _centred_ranks(one), _centred_ranks(other)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / scale, -1.0, 1.0)) if scale > 0 else None


def _centred_ranks(values: Floats) -> Floats:
    """Average ranks (N,) less their mean, which is (N + 1) / 2 and exact, so that no variance comes from rounding."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    centred: Floats = ranks[inverse.reshape(-1)] - (len(values) + 1) / 2
    return centred


def _judge_population(values: Mapping[str, Floats], ious: Floats, members: NDArray[np.bool_]) -> PopulationQuality:
    chosen = ious[members]
    judged = {name: judge_score(scores[members], chosen) for name, scores in values.items()}
    return PopulationQuality(
        count=len(chosen),
        mean_iou=float(chosen.mean()) if len(chosen) else None,
        class_score=judged["class_score"],
        mask_score=judged.get("mask_score"),
        product=judged.get("product"),
    )


def judge_score(scores: ArrayLike, ious: ArrayLike) -> ScoreQuality:
    """Correlation, error and calibration of one score.

    Args:
        scores: (N,) finite numbers, in [0, 1] if they mean anything as an IoU.
        ious: (N,) measured IoU in [0, 1].

    Raises:
        ConfigError: the lengths differ.

    """
    score, iou = np.asarray(scores, dtype=np.float64), np.asarray(ious, dtype=np.float64)
    spearman = spearman_correlation(score, iou)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    bin_of = np.searchsorted(edges[1:-1], score, side="right")
    counts = np.bincount(bin_of, minlength=NUM_BINS)
    score_sums = np.bincount(bin_of, weights=score, minlength=NUM_BINS)
    iou_sums = np.bincount(bin_of, weights=iou, minlength=NUM_BINS)
    bins = tuple(
        ReliabilityBin(
            lower=float(edges[k]),
            upper=float(edges[k + 1]),
            count=int(counts[k]),
            mean_score=float(score_sums[k] / counts[k]) if counts[k] else None,
            mean_iou=float(iou_sums[k] / counts[k]) if counts[k] else None,
        )
        for k in range(NUM_BINS)
    )
    return ScoreQuality(
        spearman=spearman,
        mean_absolute_error=float(np.abs(score - iou).mean()) if len(score) else None,
        calibration_error=float(np.abs(score_sums - iou_sums).sum() / len(score)) if len(score) else None,
        bins=bins,
    )


def _plain(quality: ScoreQuality | None) -> dict[str, Any] | None:
    """JSON has no tuples: without this a report read back would differ from the one written."""
    return None if quality is None else {**asdict(quality), "bins": [asdict(one) for one in quality.bins]}


def _number(value: Any, index: int) -> float:
    number = float(value) if isinstance(value, Real) else float("nan")
    if not np.isfinite(number):
        raise DataError(f"results[{index}]: expected a finite class_score, got {value!r}")
    return number
