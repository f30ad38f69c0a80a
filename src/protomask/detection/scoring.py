"""The last step of every prediction: calibrated scores, thresholds, and the order of the result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.calibration import Calibration
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.structures.instances import Instances

Floats = NDArray[np.float32]


class Scoring(NamedTuple):
    """How the raw scores of a network become those of a result, and which of them are returned.

    Attributes:
        thresholds: (C,) float32: final scores of each class above this are returned; of 0, all.
        calibration: of the scores, None leaves them as they are.

    """

    thresholds: Floats
    calibration: Calibration | None = None

    @classmethod
    def of(cls, options: PredictOptions, class_names: tuple[str, ...], calibration: Calibration | None) -> Scoring:
        """What options of a prediction amount to with a model.

        Raises:
            ConfigError: thresholds for a precision, of a model without calibration.

        """
        precision = options.wanted_precision
        if precision is None:
            return cls(np.full(len(class_names), options.score_threshold, dtype=np.float32), calibration)
        if calibration is None:
            raise ConfigError(
                "threshold_for: expected a calibrated model, which knows the precision of its scores, got one without "
                "calibration; protomask calibrate makes one"
            )
        return cls(calibration.thresholds_for(precision, class_names), calibration)

    @property
    def least_class_score(self) -> float:
        """No raw class score up to this is returned, of any class and with any mask score."""
        least = float(self.thresholds.min(initial=1.0))
        return least if self.calibration is None else self.calibration.class_scores.inverse(least)

    def of_network(self, options: PredictOptions) -> PredictOptions:
        """The options for whoever chooses among raw scores."""
        return options.replace(score_threshold=self.least_class_score, threshold_for=None)

    def scores(self, class_scores: Floats, mask_scores: Floats | None) -> tuple[Floats, Floats | None]:
        """Calibrated class scores and mask scores, (N,) each."""
        if self.calibration is None:
            return class_scores, mask_scores
        curve = self.calibration.mask_scores
        if mask_scores is not None and curve is not None:
            mask_scores = curve(mask_scores)
        return self.calibration.class_scores(class_scores), mask_scores

    def finish(self, found: Instances) -> Instances:
        """What is returned of all that was kept in an image, with its final scores, best first."""
        if self.calibration is not None:
            class_scores, mask_scores = self.scores(found.class_scores, found.mask_scores)
            found = found.replace(class_scores=class_scores, mask_scores=mask_scores)
        limits = self.thresholds[found.labels]
        above = (found.scores > limits) | (limits <= 0)
        return (found if above.all() else found[above]).best_first()
