"""What every predictor can do, whatever runs its network: PyTorch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import Any, overload

import torch
from torch import Tensor

from protomask.errors import ConfigError
from protomask.inference.sources import ImageSource, read_image
from protomask.models.config import NmsMode
from protomask.structures.instances import Instances

STAGES = ("decode", "preprocess", "network", "postprocess")
"""What `ImagePredictor.predict_images` and its callers time, in order."""


class ImagePredictor(ABC):
    """Reads images and finds their instances."""

    source: str
    """Where the weights come from, for messages."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""

    @overload
    def predict(self, source: Sequence[ImageSource], **options: Any) -> list[Instances]: ...

    @overload
    def predict(self, source: ImageSource, **options: Any) -> Instances: ...

    def predict(  # type: ignore[misc]  # the overloads leave the options to this signature
        self,
        source: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
        *,
        score_threshold: float = 0.3,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        nms: NmsMode | None = None,
        candidate_threshold: float | None = None,
        batch_size: int = 8,
    ) -> Instances | list[Instances]:
        """Find the instances of one image, or of each image of a list.

        Args:
            source: path, PIL image, (H, W, 3) uint8 RGB array or (3, H, W) uint8 RGB tensor; or a list of these.
            score_threshold: return only what scores above this; 0 returns all of ``max_detections``.
            iou_threshold: overlap above which NMS suppresses; the model's own (0.5) when not given.
            max_detections: at most so many instances per image; the model's own (100) when not given.
            nms: fast, cross_class_fast, batched, soft_linear or soft_gaussian; the model's own when not given.
            candidate_threshold: which anchors are looked at at all; the model's own (0.05) when not given.
            batch_size: images of a list that go through the network together.

        Returns:
            `Instances` in the frame of the original image, best first; a list of them for a list.

        Raises:
            DataError: an image cannot be read; the message names it.
            ConfigError: an option is out of range.

        """
        options: dict[str, Any] = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "nms": nms,
            "candidate_threshold": candidate_threshold,
        }
        if isinstance(source, list | tuple):
            if batch_size < 1:
                raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
            found: list[Instances] = []
            for start in range(0, len(source), batch_size):
                images = [read_image(item) for item in source[start : start + batch_size]]
                found += self.predict_images(images, **options)
            return found
        return self.predict_images([read_image(source)], **options)[0]

    @abstractmethod
    def predict_images(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        """`predict` for images that are already read, in one batch.

        Args:
            images: (3, H, W) uint8 RGB each, any sizes.
            timings: seconds of each stage are added to it when given.
            options: as in `predict`.

        """


class Clock:
    """Adds the time since the last call to a stage, if anybody wants to know."""

    def __init__(self, timings: dict[str, float] | None, device: torch.device) -> None:
        self._timings = timings
        self._device = device
        self._last = perf_counter()

    def stage(self, name: str) -> None:
        if self._timings is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = perf_counter()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now
