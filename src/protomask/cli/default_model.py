"""What is said where no model was named: what the default knows, and when it probably found nothing it knows."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.detection.options import PredictOptions
    from protomask.inference.predictor import Predictor
    from protomask.structures.frame import Frame

SCORES_ABOVE = 0.3
LOW_MEAN = 0.56
"""Mean of the scores above `SCORES_ABOVE` below which an image hardly shows drawn shapes.

So it was in 191 of 200 photographs (coco-mini, everyday, photos) and in 1 of 60 unseen scenes of `protomask data synth`
(2026-11-30, calibrated scores).
"""


class DefaultModelNotes:
    """Notes on standard error about predictions with the default model.

    Args:
        predictor: the default model.
        options: of the predictions.

    """

    def __init__(self, predictor: Predictor, options: PredictOptions) -> None:
        self._predictor = predictor
        self._options = options
        self._seen = 0
        self._doubtful = 0

    def begin(self) -> None:
        """Say what the model knows, and what to use for photographs."""
        known = ", ".join(self._predictor.class_names)
        print(
            f"note: no --model was named: {self._predictor.model_name} knows drawn shapes only ({known}); {_advice()}",
            file=sys.stderr,
        )

    def see(self, frame: Frame) -> None:
        """One more frame was predicted."""
        if frame.found is None:
            return
        self._seen += 1
        scores = frame.found.scores
        certain = scores[scores > SCORES_ABOVE]
        if len(certain):  # with a higher threshold the mean would be higher, too
            self._doubtful += self._options.score_threshold <= SCORES_ABOVE and float(certain.mean()) < LOW_MEAN
        else:
            self._doubtful += self._options.classes is None

    def end(self) -> None:
        """Say in how many images the model found nothing it knows."""
        if self._doubtful:
            print(
                f"note: {self._doubtful} of {self._seen} images do not look like drawn scenes (nothing found or a mean "
                f"score below {LOW_MEAN}, as in 19 of 20 photographs): do not trust what {self._predictor.model_name} "
                "found there; use another --model",
                file=sys.stderr,
            )


def _advice() -> str:
    needs = "" if find_spec("torch") else ", which needs pip install 'protomask[torch]'"
    return f"for photographs use --model yolact_resnet50 (COCO's 80 classes{needs}), for cell nuclei --model nuclei"
