"""What the configs of all prototype models share: how their candidates become detections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from protomask.detection.options import PROTOTYPE_OPTIONS, Crop, Duplicates, Edges, NmsMode, Overlap
from protomask.models.config import ModelConfig
from protomask.settings import Count, NonNegative

if TYPE_CHECKING:
    from protomask.detection.options import PredictOptions
    from protomask.detection.prototypes import PrototypeRule


_Config = TypeVar("_Config", bound="PrototypeModelConfig")


@dataclass(frozen=True, kw_only=True)
class PrototypeModelConfig(ModelConfig, ABC):
    """Base of the config of a model whose masks are made of prototypes.

    Attributes:
        nms: one of fast, cross_class_fast, batched, soft_linear, soft_gaussian.
        overlap: what NMS compares, see `protomask.detection.options.PredictOptions`; ``duplicates``,
            ``crop``, ``crop_margin`` and ``edges``, how boxes and masks are made, likewise.
        max_candidates: anchors per class that enter fast NMS.
        candidates_per_level: maximum number of anchors of each pyramid level, the best, that are looked at;
            None for no limit.
        threshold_detections: ``candidate_threshold`` also holds for each detection of fast NMS, which can otherwise
            return an anchor with more classes than the one that passed. (The greedy modes always do so.)
        clip_boxes: to the image before NMS and before masks are cropped; otherwise only those of the results.
        empty_boxes_suppress: in fast NMS, a better box without area suppresses another one without area.

    """

    nms: NmsMode = "fast"
    overlap: Overlap = "box_iou"
    max_candidates: Count = 200
    candidates_per_level: Count | None = None
    threshold_detections: bool = False
    clip_boxes: bool = False
    empty_boxes_suppress: bool = True
    duplicates: Duplicates = "drop"
    crop: Crop = "box"
    crop_margin: NonNegative = 0.0
    edges: Edges = "grid"

    @property
    @abstractmethod
    def anchors_per_level(self) -> tuple[int, ...]:
        """Anchors, or points, of each level, finest first."""

    @property
    def sums_prototypes(self) -> bool:
        """Whether masks are weighted sums of the prototypes, which can be made anywhere."""
        return True


def rule_of(config: PrototypeModelConfig) -> PrototypeRule:
    """How candidates of a network become detections, before a caller chooses anything."""
    from protomask.detection.prototypes import PrototypeRule  # which needs NumPy; the zoo lists models without it

    return PrototypeRule(
        nms=config.nms,
        overlap=config.overlap,
        iou_threshold=config.iou_threshold,
        candidate_threshold=config.candidate_threshold,
        max_detections=config.max_detections,
        max_candidates=config.max_candidates,
        candidates_per_level=config.candidates_per_level,
        anchors_per_level=config.anchors_per_level,
        threshold_detections=config.threshold_detections,
        clip_boxes=config.clip_boxes,
        empty_boxes_suppress=config.empty_boxes_suppress,
        duplicates=config.duplicates,
        crop=config.crop,
        crop_margin=config.crop_margin,
        edges=config.edges,
        input_side=config.image_size,
    )


def settle(config: _Config, options: PredictOptions) -> _Config:
    """The config with the thresholds that the options of a prediction amount to.

    Raises:
        ConfigError: an option that asks for sums of prototypes.

    """
    if not config.sums_prototypes:
        options.refuse(PROTOTYPE_OPTIONS, f"{config.name}, whose masks are not plain sums of prototypes")
    rule = rule_of(config).settle(options)
    return config.override(
        nms=rule.nms,
        overlap=rule.overlap,
        iou_threshold=rule.iou_threshold,
        candidate_threshold=rule.candidate_threshold,
        max_detections=rule.max_detections,
        max_candidates=rule.max_candidates,
        duplicates=rule.duplicates,
        crop=rule.crop,
        crop_margin=rule.crop_margin,
        edges=rule.edges,
    )
