"""What is said where no model was named: what the default knows, and when it found nothing it knows."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.detection.options import PredictOptions
    from protomask.inference.predictor import Predictor
    from protomask.structures.frame import Frame


class DefaultModelNotes:
    """Notes on standard error about predictions with the default model.

    Args:
        predictor: the default model.
        options: options of the predictions.

    """

    def __init__(self, predictor: Predictor, options: PredictOptions) -> None:
        self._predictor = predictor
        self._options = options
        self._seen = 0
        self._empty = 0

    def begin(self) -> None:
        """Say what the model knows, and what to use for anything else."""
        known = ", ".join(self._predictor.class_names)
        print(
            f"note: no --model was named: {self._predictor.model_name} knows photographs of {known}; {_advice()}",
            file=sys.stderr,
        )

    def see(self, frame: Frame) -> None:
        """One more frame was predicted."""
        if frame.found is None:
            return
        self._seen += 1
        self._empty += not len(frame.found) and self._options.classes is None  # else the image may hold others

    def end(self) -> None:
        """Say in how many images the model found nothing it knows."""
        if self._empty:
            print(
                f"note: {self._predictor.model_name} found nothing that it knows in {self._empty} of {self._seen} "
                f"images; another --model may, or a --score-threshold below {self._options.score_threshold:g}",
                file=sys.stderr,
            )


def _advice() -> str:
    needs = "" if find_spec("torch") else ", which needs pip install 'protomask[torch]'"
    return (
        f"for COCO's 80 classes use --model yolact_resnet50{needs}, for cell nuclei --model nuclei, "
        "for drawn shapes --model shapes"
    )
