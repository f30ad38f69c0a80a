"""A predictor without a network, for tests: the objects are written into the colours of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.detection.options import Limits, PredictOptions
from protomask.detection.rows import instances_of
from protomask.images.decode import Pixels
from protomask.inference.predictor import Clock, Predictor
from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import DenseMasks

Box = tuple[int, int, int, int]
"""xyxy, whole pixels."""
CLASS_NAMES = ("nut", "bolt")


class FakePredictor(Predictor):
    """Finds what `scene` has painted, and remembers what it was given.

    Args:
        most: no more than this are found in an image or tile, and no more can be asked for; None for no such limit.
        before: called before each batch.

    """

    def __init__(self, *, most: int | None = None, before: Callable[[], None] = lambda: None) -> None:
        self.source = "fake"
        self.most = most
        self.before = before
        self.batches: list[list[tuple[int, ...]]] = []
        """(H, W) of the images of each batch."""
        self.options: list[PredictOptions] = []
        """Of each batch."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    @property
    def model_name(self) -> str:
        return "fake"

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def most_detections(self) -> int | None:
        return self.most

    def limits(self, options: PredictOptions) -> Limits:
        return Limits(options.nms or "fast", options.max_detections or self.most or 100)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        self.before()
        self.batches.append([image.shape[:2] for image in images])
        self.options.append(options)
        clock = Clock(timings)
        found = [self._find(image, options) for image in images]
        clock.stage("network")
        return found

    def _find(self, image: Pixels, options: PredictOptions) -> Instances:
        colors = np.unique(image.reshape(-1, 3), axis=0)
        colors = colors[colors[:, 0] > 0]
        masks: NDArray[np.bool_] = (image == colors[:, None, None]).all(axis=3)
        found = instances_of(
            boxes=boxes_of_masks(masks),
            labels=colors[:, 1].astype(np.int64),
            class_scores=(colors[:, 2] / 255).astype(np.float32),
            mask_scores=None,
            masks=DenseMasks(masks),
            image_size=(image.shape[0], image.shape[1]),
            class_names=self.class_names,
        )
        return self.scoring(options).finish(found)[: self.limits(options).max_detections]


def scene(size: tuple[int, int], *objects: tuple[Box, int, int]) -> Pixels:
    """A black image (H, W) with filled boxes, of label and score (1..255) each; later ones lie on top."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    for number, ((x1, y1, x2, y2), label, score) in enumerate(objects, start=1):
        image[y1:y2, x1:x2] = number, label, score
    return image
