"""Curves from raw to calibrated scores, and what options make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.detection.calibration import PRECISIONS, Calibration, ScoreCurve
from protomask.detection.options import PredictOptions
from protomask.detection.scoring import Scoring
from protomask.errors import ConfigError
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import DenseMasks

CURVE = ScoreCurve(scores=(0.1, 0.5, 0.99), values=(0.05, 0.2, 0.9))
NAMES = ("nut", "bolt")


def calibration(**changes: object) -> Calibration:
    thresholds = {"nut": tuple(0.2 + step / 100 for step in range(50))}
    return Calibration(method="isotonic", class_scores=CURVE, thresholds=thresholds).replace(**changes)


def found(scores: list[float], labels: list[int], mask_scores: list[float] | None = None) -> Instances:
    count = len(scores)
    return Instances(
        boxes=np.tile(np.array([0, 0, 4, 4], dtype=np.float32), (count, 1)),
        labels=np.array(labels, dtype=np.int64),
        class_scores=np.array(scores, dtype=np.float32),
        mask_scores=None if mask_scores is None else np.array(mask_scores, dtype=np.float32),
        masks=DenseMasks(np.ones((count, 4, 4), dtype=np.bool_)),
        image_size=(4, 4),
        class_names=NAMES,
    )


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def test_knots_become_their_values() -> None:
    np.testing.assert_allclose(CURVE(floats(0.1, 0.5, 0.99)), [0.05, 0.2, 0.9], rtol=1e-5)


def test_between_knots_logits_are_straight() -> None:
    halfway = 1 / (1 + np.exp(-(np.log(0.1 / 0.9) + 0) / 2))
    value = 1 / (1 + np.exp(-(np.log(0.05 / 0.95) + np.log(0.2 / 0.8)) / 2))
    np.testing.assert_allclose(CURVE(floats(halfway)), [value], rtol=1e-5)


def test_beyond_the_knots_scores_hardly_change_but_keep_their_order() -> None:
    values = CURVE(floats(1e-6, 0.01, 0.1, 0.99, 0.9999, 1.0))
    assert (np.diff(values) > 0).all()
    assert values[0] > 0.04
    assert values[-1] < 0.92


def test_no_score_stays_no_score() -> None:
    assert CURVE(floats(0.0)).tolist() == [0.0]
    assert CURVE(floats()).shape == (0,)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.floats(0, 1))
def test_what_is_above_a_calibrated_threshold_is_above_the_raw_one(scores: list[float], threshold: float) -> None:
    raw = floats(*scores)
    above = CURVE(raw) > threshold
    assert (raw[above] > np.float32(CURVE.inverse(threshold))).all() or threshold == 0


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20))
def test_a_curve_never_changes_an_order(scores: list[float]) -> None:
    assert (np.diff(CURVE(floats(*sorted(scores)))) >= 0).all()


@pytest.mark.parametrize(
    ("scores", "values", "message"),
    [
        ((0.1, 0.2), (0.1,), "values: expected 2"),
        ((0.2, 0.1), (0.1, 0.2), "scores: expected ascending"),
        ((0.1, 0.2), (0.3, 0.3), "values: expected ascending"),
        ((), (), "scores: expected a non-empty"),
        ((0.0, 0.5), (0.1, 0.2), "scores: expected"),
    ],
)
def test_wrong_curves(scores: tuple[float, ...], values: tuple[float, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScoreCurve(scores=scores, values=values)


def test_a_calibration_survives_json() -> None:
    own = calibration(mask_scores=CURVE, data="shapes", images=3, detections=70)
    assert Calibration.from_dict(own.to_dict()) == own


def test_thresholds_for_a_precision() -> None:
    own = calibration()
    np.testing.assert_allclose(own.thresholds_for(0.95, NAMES), [0.65, 1.0])
    np.testing.assert_allclose(own.thresholds_for(0.945, NAMES), [0.65, 1.0])
    assert len(PRECISIONS) == 50
    with pytest.raises(ConfigError, match=r"threshold_for: expected a precision from 0.5 to 0.99, got 0.3"):
        own.thresholds_for(0.3, NAMES)
    with pytest.raises(ConfigError, match="thresholds: expected 50 numbers"):
        calibration(thresholds={"nut": (0.5,)})


def test_the_final_score_decides_what_is_returned() -> None:
    scoring = Scoring.of(PredictOptions(score_threshold=0.5), NAMES, None)
    kept = scoring.finish(found([0.9, 0.6, 0.4], [0, 1, 0]))
    np.testing.assert_array_equal(kept.scores, floats(0.9, 0.6))
    kept = scoring.finish(found([0.9, 0.8, 0.7], [0, 1, 0], [0.5, 1.0, 0.9]))
    np.testing.assert_allclose(kept.scores, [0.8, 0.63])
    everything = Scoring.of(PredictOptions(score_threshold=0.0), NAMES, None)
    assert len(everything.finish(found([0.9, 0.0], [0, 1]))) == 2


def test_scores_are_calibrated_before_they_are_compared() -> None:
    scoring = Scoring.of(PredictOptions(score_threshold=0.3), NAMES, calibration(mask_scores=CURVE))
    kept = scoring.finish(found([0.99, 0.5, 0.99], [0, 0, 1], [0.99, 0.99, 0.5]))
    np.testing.assert_allclose(kept.class_scores, [0.9], rtol=1e-5)
    np.testing.assert_allclose(kept.scores, [0.81], rtol=1e-5)
    assert 0.5 < scoring.least_class_score < 0.99
    assert Scoring.of(PredictOptions(score_threshold=0.0), NAMES, calibration()).least_class_score == 0


def test_every_class_has_its_threshold() -> None:
    scoring = Scoring.of(PredictOptions(threshold_for="precision=0.95"), NAMES, calibration())
    kept = scoring.finish(found([0.99, 0.9, 0.99], [0, 0, 1]))
    assert kept.names == ["nut"]
    raw = scoring.of_network(PredictOptions(threshold_for="precision=0.95", nms="fast"))
    assert raw.threshold_for is None
    assert raw.nms == "fast"
    assert CURVE(floats(raw.score_threshold))[0] == pytest.approx(0.65, abs=1e-3)


def test_thresholds_need_a_calibration() -> None:
    with pytest.raises(ConfigError, match="threshold_for: expected a calibrated model"):
        Scoring.of(PredictOptions(threshold_for="precision=0.9"), NAMES, None)


@pytest.mark.parametrize("value", ["recall=0.5", "precision", "precision=high", "precision=2", "0.9"])
def test_wrong_thresholds(value: str) -> None:
    with pytest.raises(ConfigError, match="threshold_for: expected precision="):
        PredictOptions(threshold_for=value)
