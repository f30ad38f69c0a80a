"""Curves and thresholds that are fitted to detections."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from protomask.detection.calibration import PRECISIONS
from protomask.errors import DataError
from protomask.evaluation.calibration import Samples, fit_curves, precision_thresholds
from protomask.evaluation.quality_report import judge_score


def samples(count: int = 4000, *, masks: bool = False) -> Samples:
    """A model that is too sure: the IoU is about the square of the score, and half of it where the mask score is."""
    random = np.random.default_rng(0)
    scores = random.uniform(0.05, 1, count)
    quality = random.uniform(0.4, 1, count)
    ious = (scores**2 * (quality if masks else 1) + random.normal(0, 0.05, count)).clip(0, 1)
    return Samples(scores, np.sqrt(quality) if masks else None, ious)


@pytest.mark.parametrize("masks", [False, True])
def test_fitted_scores_are_the_mean_iou(masks: bool) -> None:
    given = samples(masks=masks)
    curves = fit_curves(given.of(np.arange(4000) % 2 == 0))
    other = given.of(np.arange(4000) % 2 == 1)
    final = curves.class_scores(other.class_scores.astype(np.float32))
    raw = other.class_scores
    if masks:
        assert curves.mask_scores is not None
        assert other.mask_scores is not None
        final = final * curves.mask_scores(other.mask_scores.astype(np.float32))
        raw = raw * other.mask_scores
    else:
        assert curves.mask_scores is None
    before, after = judge_score(raw, other.ious), judge_score(final, other.ious)
    assert before.calibration_error is not None
    assert after.calibration_error is not None
    assert before.calibration_error > 0.1
    assert after.calibration_error < 0.03


def test_a_temperature_is_one_number() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, 3000)
    given = Samples(1 / (1 + np.exp(-3 * logits)), None, 1 / (1 + np.exp(-logits)))
    curve = fit_curves(given, "temperature").class_scores
    assert len(curve.scores) == 2
    np.testing.assert_allclose(curve(given.class_scores.astype(np.float32)), given.ious, atol=0.01)


def test_curves_rise_even_where_the_iou_falls() -> None:
    scores = np.linspace(0.1, 0.9, 200)
    curve = fit_curves(Samples(scores, None, 1 - scores)).class_scores
    assert len(curve.scores) == 1  # nothing is left but the mean
    assert curve.values[0] == pytest.approx(0.5, abs=0.01)


def test_too_little_to_fit_to() -> None:
    with pytest.raises(DataError, match="at least 50 detections to fit to, got 49"):
        fit_curves(samples(49))
    hopeless = samples(200, masks=True)._replace(ious=np.zeros(200))
    with pytest.raises(DataError, match=r"masks with an IoU of 0\.5"):
        fit_curves(hopeless)


def test_thresholds_are_the_lowest_with_the_precision() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    hits = np.array([True, True, False, True, False])
    found = dict(zip(PRECISIONS, precision_thresholds(scores, hits), strict=True))
    assert found[0.99] == pytest.approx(0.7)  # 2 of 2 above it
    assert found[0.75] == pytest.approx(0.5)  # 3 of 4
    assert found[0.6] == 0.0  # 3 of 5
    assert precision_thresholds(scores, ~hits)[-1] == 1.0


def test_equal_scores_stay_together() -> None:
    found = precision_thresholds(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]))
    assert dict(zip(PRECISIONS, found, strict=True))[0.99] == pytest.approx(0.5)
