"""A predictor that needs no file: what it finds follows from the image, and some images make it fail."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from protomask.detection.options import Limits, PredictOptions
from protomask.errors import CheckpointError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.structures.instances import Instances

DEADLY, SLOW, FAULTY = 13, 77, 99
"""Values of the red channel of the first pixel: the process dies, it takes a second, the model fails."""


class FakePredictor(Predictor):
    """Finds one square: its side is the red channel of the first pixel, its score 0.75."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """Two classes."""
        return ("square", "none")

    @property
    def model_name(self) -> str:
        """Of no zoo."""
        return "fake"

    @property
    def device(self) -> str:
        """Nothing runs."""
        return "cpu"

    def limits(self, options: PredictOptions) -> Limits:
        """Nothing is suppressed."""
        return Limits("fast", options.max_detections or 100)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        """One square per image."""
        return [self._find(image, options) for image in images]

    def _find(self, image: Pixels, options: PredictOptions) -> Instances:
        red = int(image[0, 0, 0])
        if red == DEADLY:
            os._exit(1)
        if red == SLOW:
            time.sleep(1.0)
        if red == FAULTY:
            raise RuntimeError("a secret of the server")
        count = 1 if options.score_threshold < 0.75 else 0
        masks = np.zeros((count, *image.shape[:2]), dtype=np.bool_)
        masks[:, :red, :red] = True
        return Instances(
            boxes=np.array([[0, 0, red, red]] * count, dtype=np.float32).reshape(-1, 4),
            labels=np.zeros(count, dtype=np.int64),
            class_names=self.class_names,
            class_scores=np.full(count, 0.75, dtype=np.float32),
            masks=masks,
            image_size=(image.shape[0], image.shape[1]),
        )


def load(source: str | None, *, threads: int | None = None) -> FakePredictor:
    """Stands for `protomask.load`; the source "broken" cannot be loaded."""
    if source == "broken":
        raise CheckpointError("broken: expected weights")
    return FakePredictor(source or "fake")
