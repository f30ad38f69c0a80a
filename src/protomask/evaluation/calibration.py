"""Fitting a calibration: curves from scores to the IoU that masks of such a score have, thresholds for a precision.

The curve of the class score is fitted so that the final score is the mean measured IoU (see
`protomask.evaluation.quality`) of the masks that have it: with isotonic regression, which only asks that it rises, or
with one temperature (Guo et al. 2017, https://arxiv.org/abs/1706.04599), which a few images suffice for. Where a model
has mask scores, their curve comes first: from the mask score to the mean IoU of masks that are on an object at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.calibration import LOGIT_LIMIT, PRECISIONS, CalibrationMethod, ScoreCurve, logit
from protomask.errors import DataError
from protomask.evaluation.errors.matching import compare_image
from protomask.evaluation.errors.tide import CORRECT, IGNORED, Judged, judge_image
from protomask.evaluation.match import prepare_results
from protomask.evaluation.quality_report import MATCHED_IOU, Floats
from protomask.evaluation.truth import GroundTruth, Row

LEAST_DETECTIONS = 50
"""Fewer say nothing about scores."""
_GROUPS, _LEAST_IN_GROUP = 40, 20
"""Maximum number of groups of detections with similar scores that become knots, and minimum size of a group."""
_VALUES = (0.002, 0.998)
"""No mean of a few detections is more certain than this."""
_TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(20), 400))


class Samples(NamedTuple):
    """Detections and the measured IoU of their masks, (N,) each; ``mask_scores`` None for a model without."""

    class_scores: Floats
    mask_scores: Floats | None
    ious: Floats

    def of(self, members: NDArray[np.bool_]) -> Samples:
        """Some of them."""
        masks = None if self.mask_scores is None else self.mask_scores[members]
        return Samples(self.class_scores[members], masks, self.ious[members])


class Curves(NamedTuple):
    """Curves of the class scores and, where the model has them, of the mask scores."""

    class_scores: ScoreCurve
    mask_scores: ScoreCurve | None


def fit_curves(samples: Samples, method: CalibrationMethod = "isotonic") -> Curves:
    """Fit the curves of a calibration.

    Args:
        samples: raw scores of the detections to fit to.
        method: see the module.

    Raises:
        DataError: too few detections.

    """
    if len(samples.ious) < LEAST_DETECTIONS:
        raise DataError(
            f"calibration: expected at least {LEAST_DETECTIONS} detections to fit to, got {len(samples.ious)}"
        )
    ones = np.ones_like(samples.ious)
    if samples.mask_scores is None:
        return Curves(_fit(samples.class_scores, samples.ious, ones, method), None)
    on_object = samples.ious >= MATCHED_IOU
    if on_object.sum() < LEAST_DETECTIONS:
        raise DataError(
            f"calibration: expected at least {LEAST_DETECTIONS} masks with an IoU of {MATCHED_IOU} to fit mask scores "
            f"to, got {on_object.sum()}"
        )
    curve = _fit(samples.mask_scores[on_object], samples.ious[on_object], ones[on_object], method)
    expected = curve(samples.mask_scores.astype(np.float32)).astype(np.float64)
    usable = expected > 0
    share = samples.ious[usable] / expected[usable]
    # The squared error of the product is that of the share, weighted by the square of the other factor.
    return Curves(_fit(samples.class_scores[usable], share, expected[usable] ** 2, method), curve)


def _fit(scores: Floats, targets: Floats, weights: Floats, method: CalibrationMethod) -> ScoreCurve:
    x = logit(scores)
    return _temperature(x, targets, weights) if method == "temperature" else _isotonic(x, targets, weights)


def _temperature(x: Floats, targets: Floats, weights: Floats) -> ScoreCurve:
    errors = [float((weights * (_logistic(x / one) - targets) ** 2).sum()) for one in _TEMPERATURES]
    ends = np.array([-LOGIT_LIMIT, LOGIT_LIMIT])
    values = _logistic(ends / _TEMPERATURES[int(np.argmin(errors))])
    return ScoreCurve(scores=tuple(_logistic(ends)), values=tuple(values))


def _isotonic(x: Floats, targets: Floats, weights: Floats) -> ScoreCurve:
    """Groups of similar scores; neighbours are joined until their means rise (pool adjacent violators)."""
    order = np.argsort(x, kind="stable")
    groups = min(_GROUPS, max(1, len(x) // _LEAST_IN_GROUP))
    pools: list[tuple[float, float, float]] = []  # weight, and weighted sums of x and of the targets
    for part in np.array_split(order, groups):
        own = weights[part]
        pool = (float(own.sum()), float((own * x[part]).sum()), float((own * targets[part]).sum()))
        while pools and pools[-1][2] / pools[-1][0] >= pool[2] / pool[0]:
            before = pools.pop()
            pool = (pool[0] + before[0], pool[1] + before[1], pool[2] + before[2])
        pools.append(pool)
    scores = _logistic(np.array([pool[1] / pool[0] for pool in pools]))
    values = np.array([pool[2] / pool[0] for pool in pools]).clip(*_VALUES)
    rising = np.flatnonzero((np.diff(values, prepend=-1) > 0) & (np.diff(scores, prepend=-1) > 0))
    return ScoreCurve(scores=tuple(scores[rising]), values=tuple(values[rising]))


def _logistic(values: Floats) -> Floats:
    shares: Floats = 1 / (1 + np.exp(-values))
    return shares


def judge_rows(rows: Sequence[Row], truth: GroundTruth, *, max_detections: int) -> Judged:
    """Which mask detections are right, by COCO's rules at an IoU of 0.5; labels number the categories in their order.

    Args:
        rows: COCO result rows with masks.
        truth: what they are compared with.
        max_detections: detections of each image and class that count, the best.

    """
    by_image = defaultdict[int, list[Row]](list)
    for row in prepare_results(rows, truth, "segm"):
        by_image[row["image_id"]].append(row)
    annotations = defaultdict[int, list[Row]](list)
    for annotation in truth.annotations:
        annotations[annotation["image_id"]].append(annotation)
    labels = {category: label for label, category in enumerate(sorted(truth.category_names))}
    return Judged.cat(
        [
            judge_image(compare_image(own, annotations[image_id], "segm", max_detections), labels)
            for image_id, own in sorted(by_image.items())
        ]
    )


def precision_thresholds(scores: Floats, hits: NDArray[np.bool_]) -> tuple[float, ...]:
    """The lowest score above which detections of one class have each precision of `PRECISIONS`; 1 where none has.

    Args:
        scores: (N,) final scores.
        hits: (N,) which detections are right.

    """
    order = np.argsort(-scores, kind="stable")
    ranked = np.append(scores[order], 0.0)
    precision = np.cumsum(hits[order]) / np.arange(1, len(order) + 1)
    # A threshold lies between two scores that differ.
    precision = np.where(ranked[:-1] > ranked[1:], precision, 0.0)
    found = []
    for wanted in PRECISIONS:
        enough = np.flatnonzero(precision >= wanted)
        found.append(float(ranked[enough[-1] + 1]) if len(enough) else 1.0)
    return tuple(found)


def class_thresholds(judged: Judged, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """`precision_thresholds` of each class that something was found of.

    Args:
        judged: detections with their final scores.
        names: of the classes, in the order of the labels of ``judged``.

    """
    thresholds = {}
    for label, name in enumerate(names):
        own = (judged.labels == label) & (judged.kinds != IGNORED)
        if own.any():
            thresholds[name] = precision_thresholds(judged.scores[own], judged.kinds[own] == CORRECT)
    return thresholds
