"""`Calibration`: from the scores that a network gives to scores that say what IoU to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError
from protomask.settings import CountOrZero, NotEmpty, OpenShare, Settings, Unit

Floats = NDArray[np.float32]
CalibrationMethod = Literal["isotonic", "temperature"]
PRECISIONS: tuple[float, ...] = tuple(step / 100 for step in range(50, 100))
"""Precisions for which a calibration knows the threshold of each class."""
LOGIT_LIMIT = 17.0
"""Scores of float32 lie within the logistic of minus and plus this, 0 and 1 excepted."""
END_SLOPE = 0.01
"""Beyond the knots a curve is all but flat: there nothing was measured, but the order of scores is kept."""
_SLACK = 1e-4
"""Slack of a logit: a threshold in raw scores may let a little more through, never less."""


@dataclass(frozen=True, kw_only=True)
class ScoreCurve(Settings):
    """A rising curve from raw to calibrated scores: straight between knots where both axes are logits.

    A higher raw score always has a higher calibrated one, so a curve never changes an order, but for scores that
    float32 cannot tell apart.

    Attributes:
        scores: raw scores of the knots, ascending.
        values: calibrated scores of the knots, ascending.

    """

    scores: Annotated[tuple[OpenShare, ...], NotEmpty()]
    values: Annotated[tuple[OpenShare, ...], NotEmpty()]

    def _check(self) -> None:
        self._expect("values", len(self.values) == len(self.scores), f"{len(self.scores)}, as many as scores")
        for name in ("scores", "values"):
            self._expect(name, bool((np.diff(getattr(self, name)) > 0).all()), "ascending numbers")

    def __call__(self, scores: Floats) -> Floats:
        """Calibrated scores, of the same shape, float32 in (0, 1); 0 stays 0, the score of no detection."""
        calibrated = _logistic(_line(logit(scores), logit(self.scores), logit(self.values)))
        return np.where(scores > 0, calibrated, 0).astype(np.float32)

    def inverse(self, value: float) -> float:
        """A raw score that no raw score with a calibrated one above ``value`` is below; a little less than exact."""
        if not 0 < value < 1:
            return float(value)
        at = _line(logit(np.array([value])), logit(self.values), logit(self.scores), slope=1 / END_SLOPE) - _SLACK
        return float(_logistic(at)[0]) if at[0] > -LOGIT_LIMIT else 0.0


@dataclass(frozen=True, kw_only=True)
class Calibration(Settings):
    """What was learned about the scores of a model on annotated images; it is kept in its weights and exported files.

    Attributes:
        method: how the curves were fitted.
        class_scores: curve of the class scores.
        mask_scores: curve of the mask scores; None for a model without them.
        thresholds: by name of the class, the final score above which detections have each of the precisions of
            `PRECISIONS`, at a mask IoU of 0.5; 1 where no threshold reaches it.
        data: name of the data set.
        images: number of images.
        detections: number of detections that the curves were fitted to.

    """

    method: CalibrationMethod
    class_scores: ScoreCurve
    mask_scores: ScoreCurve | None = None
    thresholds: dict[str, tuple[Unit, ...]] = field(default_factory=dict)
    data: str = ""
    images: CountOrZero = 0
    detections: CountOrZero = 0

    def _check(self) -> None:
        fits = all(len(own) == len(PRECISIONS) for own in self.thresholds.values())
        self._expect("thresholds", fits, f"{len(PRECISIONS)} numbers for each class")

    def thresholds_for(self, precision: float, class_names: tuple[str, ...]) -> Floats:
        """Final score of each class above which its detections have a precision, (C,).

        A class that the calibration has not seen, or that never reaches the precision, has 1: nothing of it is sure
        enough.

        Args:
            precision: from the first to the last of `PRECISIONS`; between two of them the higher one counts.
            class_names: name of each label.

        Raises:
            ConfigError: a precision beyond these.

        """
        if not PRECISIONS[0] <= precision <= PRECISIONS[-1]:
            raise ConfigError(
                f"threshold_for: expected a precision from {PRECISIONS[0]} to {PRECISIONS[-1]}, got {precision:g}"
            )
        place = int(np.searchsorted(PRECISIONS, precision - 1e-9))
        found: Mapping[str, tuple[float, ...]] = self.thresholds
        return np.array([found[name][place] if name in found else 1.0 for name in class_names], dtype=np.float32)


def logit(scores: Floats | NDArray[np.float64] | tuple[float, ...]) -> NDArray[np.float64]:
    """The logits of scores, within `LOGIT_LIMIT`."""
    values = np.asarray(scores, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits: NDArray[np.float64] = np.nan_to_num(np.log(values) - np.log1p(-values), nan=-LOGIT_LIMIT)
    return logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = 1 / (1 + np.exp(-values.clip(-60, 60)))
    return shares


def _line(
    at: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], *, slope: float = END_SLOPE
) -> NDArray[np.float64]:
    """Straight between the knots (x, y), and of a slope beyond the outer ones."""
    beyond = np.minimum(at - x[0], 0) + np.maximum(at - x[-1], 0)
    values: NDArray[np.float64] = np.interp(at, x, y) + slope * beyond
    return values
