"""`calibrate`: what the scores of a model mean, learned on one part of a data set and judged on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.data.coco.dataset import CocoDataset
from protomask.detection.calibration import Calibration, CalibrationMethod
from protomask.detection.options import PredictOptions
from protomask.detection.scoring import Scoring
from protomask.errors import ConfigError, DataError
from protomask.evaluation.calibration import Samples, class_thresholds, fit_curves, judge_rows
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import COCO_DETECTIONS, FindsInstances, OnProgress, check_classes, predict_dataset
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.quality_report import ScoreQuality, judge_score

MIN_CLASS_SCORE = 0.05
"""Detections count whose raw class score is above this, as in `protomask.evaluation.quality`."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """A calibration, and what it does to the final scores of images that it was not fitted to.

    Attributes:
        calibration: to be stored with the model.
        check_images: number of images that the fit did not see.
        check_detections: number of detections in them.
        before: how well their final scores predict the IoU of their masks, without the calibration.
        after: the same with it.

    """

    calibration: Calibration
    check_images: int
    check_detections: int
    before: ScoreQuality
    after: ScoreQuality

    def rows(self) -> list[tuple[str, float | None, float | None]]:
        """(measure, before, after)."""
        return [
            ("calibration error", self.before.calibration_error, self.after.calibration_error),
            ("mean absolute error", self.before.mean_absolute_error, self.after.mean_absolute_error),
            ("Spearman correlation", self.before.spearman, self.after.spearman),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "calibration": self.calibration.to_dict(),
            "check_images": self.check_images,
            "check_detections": self.check_detections,
            **{name: {"before": before, "after": after} for name, before, after in self.rows()},
        }


def calibrate(
    predictor: FindsInstances,
    dataset: CocoDataset,
    *,
    name: str = "",
    method: CalibrationMethod = "isotonic",
    check_share: float = 0.5,
    options: PredictOptions | None = None,
    num_workers: int = 0,
    on_progress: OnProgress | None = None,
) -> CalibrationReport:
    """Fit a calibration to what a model finds in annotated images that it has not learned from.

    Args:
        predictor: without a calibration; it has every class of the data set.
        dataset: the images and their ground truth.
        name: of the data set, to be noted.
        method: see `protomask.evaluation.calibration`.
        check_share: share of the images held out of the fit, on which the scores are judged before and after.
        options: of the predictions; what is found depends on ``max_detections``, NMS and tiles.
        num_workers: processes that load images; 0 loads them in this one.
        on_progress: called after each image.

    Raises:
        ConfigError: ``check_share`` leaves no image for one of both parts.
        DataError: too few detections, an image cannot be read, or the predictor lacks a class of the data set.

    """
    check_classes(predictor.class_names, dataset)
    options = options or PredictOptions()
    limit = options.max_detections or COCO_DETECTIONS
    evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=limit)
    meter = QualityMeter(evaluator.truth, category_ids=dataset.category_ids, max_detections=limit)
    checking = _check_images(sorted(evaluator.truth.images), check_share)
    predict_dataset(
        predictor, dataset, evaluator, options=options.replace(max_detections=limit), num_workers=num_workers,
        quality=meter, on_progress=on_progress,
    )  # fmt: skip
    found = meter.measured()
    counted = (found.class_scores > MIN_CLASS_SCORE) & ~found.left_out
    held_out = np.isin(found.image_ids, list(checking))
    samples = Samples(found.class_scores, found.mask_scores, found.ious)
    fitted = samples.of(counted & ~held_out)
    curves = fit_curves(fitted, method)
    calibration = Calibration(
        method=method, class_scores=curves.class_scores, mask_scores=curves.mask_scores,
        data=name,
        images=len(evaluator.truth.images) - len(checking), detections=len(fitted.ious),
    )  # fmt: skip
    # Thresholds are those of calibrated scores, whose order can be another one.
    scores = _final_scores(samples, calibration)
    rows = [{**meter.rows[place], "score": float(scores[place])} for place in np.flatnonzero(~held_out)]
    judged = judge_rows(rows, evaluator.truth, max_detections=limit)
    names = [evaluator.truth.category_names[category] for category in sorted(evaluator.truth.category_names)]
    calibration = calibration.replace(thresholds=class_thresholds(judged, names))
    checked = counted & held_out
    if not checked.any():
        raise DataError("check_share: expected detections in the images that are held out, got none")
    return CalibrationReport(
        calibration=calibration,
        check_images=len(checking),
        check_detections=int(checked.sum()),
        before=judge_score(_final_scores(samples, None)[checked], found.ious[checked]),
        after=judge_score(scores[checked], found.ious[checked]),
    )


def _check_images(image_ids: Sequence[int], share: float) -> set[int]:
    """Ids of the images that are held out, the same in every call."""
    count = round(share * len(image_ids))
    if not 0 < count < len(image_ids):
        raise ConfigError(
            f"check_share: expected a share of {len(image_ids)} images that leaves some to fit to and some to judge "
            f"by, got {share:g}"
        )
    order: list[int] = np.random.default_rng(0).permutation(np.array(image_ids)).tolist()
    return set(order[:count])


def _final_scores(samples: Samples, calibration: Calibration | None) -> NDArray[np.float64]:
    masks = None if samples.mask_scores is None else samples.mask_scores.astype(np.float32)
    scoring = Scoring(np.zeros(0, dtype=np.float32), calibration)
    class_scores, mask_scores = scoring.scores(samples.class_scores.astype(np.float32), masks)
    final = class_scores if mask_scores is None else class_scores * mask_scores
    return final.astype(np.float64)
