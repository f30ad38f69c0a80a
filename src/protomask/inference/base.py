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
from protomask.inference.tiling import Tile, Tiling, merge_tiles
from protomask.models.config import ModelConfig, NmsMode
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

    @property
    @abstractmethod
    def config(self) -> ModelConfig:
        """Of the network."""

    @property
    def most_detections(self) -> int | None:
        """No ``max_detections`` of one image can be above this; None where any can."""
        return None

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
        tile: int | None = None,
        tile_overlap: float = 0.25,
    ) -> Instances | list[Instances]:
        """Find the instances of one image, or of each image of a list.

        Args:
            source: path, PIL image, (H, W, 3) uint8 RGB array or (3, H, W) uint8 RGB tensor; or a list of these.
            score_threshold: return only what scores above this; 0 returns all of ``max_detections``.
            iou_threshold: overlap above which NMS suppresses; the model's own (0.5) when not given.
            max_detections: at most so many instances per image; the model's own (100) when not given.
            nms: fast, cross_class_fast, batched, soft_linear or soft_gaussian; the model's own when not given.
            candidate_threshold: which anchors are looked at at all; the model's own (0.05) when not given.
            batch_size: images of a list, or tiles, that go through the network together.
            tile: cut images into tiles with sides of so many pixels, for small objects in large images; an image that
                is no larger is predicted as it is.
            tile_overlap: of neighbouring tiles at least, below 1 a part of the tile, from 1 on pixels. Objects up to
                this size are seen whole by some tile. Larger ones are joined from their parts, or taken from the image
                as a whole, which is predicted as well.

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
            "tiling": None if tile is None else Tiling(size=tile, overlap=tile_overlap, batch_size=batch_size),
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

    def predict_images(
        self,
        images: Sequence[Tensor],
        *,
        tiling: Tiling | None = None,
        timings: dict[str, float] | None = None,
        **options: Any,
    ) -> list[Instances]:
        """`predict` for images that are already read.

        Args:
            images: (3, H, W) uint8 RGB each, any sizes; they go through the network in one batch.
            tiling: how images are cut; they are not when not given.
            timings: seconds of each stage are added to it when given.
            options: as in `predict`.

        """
        if tiling is None:
            return self.predict_batch(images, timings=timings, **options)
        cuts = [tiling.tiles((image.shape[1], image.shape[2])) for image in images]
        fitting = [image for image, tiles in zip(images, cuts, strict=True) if len(tiles) == 1]
        wanted, most = options.get("max_detections"), self.most_detections
        # A limit of the file holds for each tile, and an image that is one tile is no exception.
        limit = wanted if wanted is None or most is None else min(wanted, most)
        of_one_tile = {**options, "max_detections": limit}
        uncut = iter(self.predict_batch(fitting, timings=timings, **of_one_tile) if fitting else [])
        return [
            next(uncut)
            if len(tiles) == 1
            else self._predict_tiles(image, tiles, tiling.batch_size, timings=timings, **options)
            for image, tiles in zip(images, cuts, strict=True)
        ]

    @abstractmethod
    def predict_batch(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        """`predict_images` for images that are not cut."""

    def _predict_tiles(
        self,
        image: Tensor,
        tiles: Sequence[Tile],
        batch_size: int,
        *,
        timings: dict[str, float] | None,
        max_detections: int | None = None,
        nms: NmsMode | None = None,
        **options: Any,
    ) -> Instances:
        settled = self.config.for_prediction(max_detections=max_detections, nms=nms)
        # A tile may find as many as the model does in an image, or as are wanted of all.
        enough = max_detections is None or max_detections <= self.config.max_detections
        if enough or self.most_detections is not None:
            max_detections = None
        options.update(max_detections=max_detections, nms=nms)
        [overview] = self.predict_batch([image], timings=timings, **options)
        found: list[Instances] = []
        for start in range(0, len(tiles), batch_size):
            parts = [
                image[:, tile.top : tile.bottom, tile.left : tile.right].contiguous()
                for tile in tiles[start : start + batch_size]
            ]
            found += self.predict_batch(parts, timings=timings, **options)
        clock = Clock(timings, torch.device("cpu"))
        merged = merge_tiles(
            found,
            tiles,
            (image.shape[1], image.shape[2]),
            overview=overview,
            max_detections=settled.max_detections,
            across_classes=settled.nms == "cross_class_fast",
        )
        clock.stage("postprocess")
        return merged


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
