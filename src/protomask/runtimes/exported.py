"""Exported files behind `Predictor`, whatever runs them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.detection import prototypes, regions
from protomask.detection.options import Limits, PredictOptions
from protomask.errors import CheckpointError, ConfigError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Clock, Predictor
from protomask.runtimes.info import ExportInfo
from protomask.structures.instances import Instances

EXPORTED_SUFFIXES = (".onnx", ".xml")
Outputs = dict[str, NDArray[Any]]
_OUTPUTS = {
    "candidates": ("class_logits", "boxes", "mask_coefficients", "prototypes"),
    "detections": ("boxes", "labels", "class_scores", "masks"),
}


class ExportedPredictor(Predictor):
    """A file of `protomask export` on the CPU.

    A file in the form "candidates" takes every option of a prediction; one in the form "detections" has settled NMS and
    thresholds, and takes one image at a time.

    Args:
        info: what the file says of itself.
        source: its path, or the name of the shipped model.
        outputs: names of what it returns.

    Raises:
        CheckpointError: the file does not return what it says.

    """

    def __init__(self, info: ExportInfo, source: str, outputs: Collection[str]) -> None:
        missing = [name for name in _OUTPUTS[info.form] if name not in outputs]
        if missing:
            raise CheckpointError(
                f"{source}: expected the outputs {', '.join(_OUTPUTS[info.form])} of the form {info.form}, "
                f"lacks {', '.join(missing)}"
            )
        self.info = info
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.info.class_names

    @property
    def model_name(self) -> str:
        """Name of the model in the zoo that the weights are of."""
        return self.info.model

    @property
    def device(self) -> str:
        """Where the file runs."""
        return "cpu"

    @property
    def most_detections(self) -> int | None:
        """No ``max_detections`` of one image can be above this, where the file has settled it."""
        return self.info.thresholds.max_detections if self.info.rule is None else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(source={self.source!r})"

    @abstractmethod
    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """(B, 3, H, W) uint8 RGB to the outputs of the file by name; from any thread."""

    def limits(self, options: PredictOptions) -> Limits:
        """See `Predictor.limits`."""
        if self.info.rule is not None:
            rule = self.info.rule.settle(options)
            return Limits(rule.nms, rule.max_detections)
        self._check_settled(options)
        own = self.info.thresholds
        return Limits(own.nms, options.max_detections or own.max_detections)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        """See `Predictor.predict_batch`.

        Raises:
            ConfigError: an option differs from what the file has settled.

        """
        if self.info.rule is not None:
            return self._predict_candidates(images, options, self.info.rule.settle(options), timings)
        self._check_settled(options)
        clock = Clock(timings)
        found = []
        for image in images:
            prepared = self.info.input.prepare(image)
            channels_first = _channels_first([prepared])
            clock.stage("preprocess")
            outputs = self.run(channels_first)
            clock.stage("network")
            found.append(self._read(outputs, (image.shape[0], image.shape[1]), prepared.shape[:2], options))
            clock.stage("postprocess")
        return found

    def _predict_candidates(
        self,
        images: Sequence[Pixels],
        options: PredictOptions,
        rule: prototypes.PrototypeRule,
        timings: dict[str, float] | None,
    ) -> list[Instances]:
        clock = Clock(timings)
        batch = _channels_first([self.info.input.prepare(image) for image in images])
        clock.stage("preprocess")
        outputs = self.run(batch)
        clock.stage("network")
        found = []
        for index, image in enumerate(images):
            logits, boxes, coefficients, grid = (
                outputs[name][index] for name in ("class_logits", "boxes", "mask_coefficients", "prototypes")
            )
            kept = prototypes.detect(logits, boxes, rule, score_threshold=options.score_threshold)
            rows = prototypes.PrototypeRows(
                boxes=kept.boxes,
                labels=kept.labels,
                class_scores=kept.class_scores,
                masks=prototypes.PrototypeMasks(grid, coefficients[kept.rows]),
            )
            size = (image.shape[0], image.shape[1])
            found.append(prototypes.paint(rows, size, self.class_names, score_threshold=options.score_threshold))
        clock.stage("postprocess")
        return found

    def _check_settled(self, options: PredictOptions) -> None:
        own = self.info.thresholds
        limit, wanted = own.max_detections, options.max_detections
        if wanted is not None and wanted > limit:
            raise ConfigError(f"max_detections: {self.source} was exported for 1 to {limit}, got {wanted}")
        for name in ("nms", "iou_threshold", "candidate_threshold"):
            value, settled = getattr(options, name), getattr(own, name)
            if value is not None and value != settled:
                raise ConfigError(
                    f"{name}: {self.source} was exported with {settled}, got {value}; export the model again for "
                    "another, or in the form candidates for all"
                )

    def _read(
        self, outputs: Outputs, size: tuple[int, int], given: tuple[int, ...], options: PredictOptions
    ) -> Instances:
        # Rows of no score are padding.
        rows = np.flatnonzero(outputs["class_scores"] > np.float32(options.score_threshold))[: options.max_detections]
        chosen = {name: values[rows] for name, values in outputs.items()}
        boxes, labels, class_scores = chosen["boxes"], chosen["labels"], chosen["class_scores"]
        mask_scores, threshold = chosen.get("mask_scores"), options.score_threshold
        if self.info.mask_frame == "region":
            of_region = regions.RegionRows(
                boxes, labels, class_scores, chosen["masks"], mask_scores, (given[0], given[1])
            )
            return regions.paint(
                of_region, size, self.class_names,
                continuous=self.info.continuous_masks, score_threshold=threshold,
            )  # fmt: skip
        relative = (boxes / np.array([given[1], given[0], given[1], given[0]])).astype(np.float32)
        of_grid = prototypes.PrototypeRows(relative, labels, class_scores, chosen["masks"], mask_scores)
        return prototypes.paint(of_grid, size, self.class_names, score_threshold=threshold)


def existing(path: str | Path) -> Path:
    """The path of a file.

    Raises:
        CheckpointError: there is none.

    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    return Path(path)


def first_line(error: Exception) -> str:
    """Of a runtime's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _channels_first(images: Sequence[Pixels]) -> NDArray[np.uint8]:
    """(H, W, 3) images of one size as (B, 3, H, W), contiguous."""
    batch: NDArray[np.uint8] = np.stack([image.transpose(2, 0, 1) for image in images])
    return np.ascontiguousarray(batch)
