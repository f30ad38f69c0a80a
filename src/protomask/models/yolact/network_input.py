"""What the check of a data set has to know of a YOLACT."""

from __future__ import annotations

from torch import Tensor

from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.geometry import image_geometry
from protomask.ops.anchors import AnchorSizes, NetworkInput, level_anchors
from protomask.ops.boxes import cxcywh_to_xyxy


def network_input(config: YolactConfig) -> NetworkInput:
    """The input size of a network, its anchors, and when one of them learns an object."""
    return NetworkInput(
        name=f"{config.name} at {config.image_size} px",
        resized_size=image_geometry(config).resized_size,
        anchor_sizes=config.anchor_scales,
        anchors=lambda sizes: _anchors(config, sizes),
        anchors_per_cell=config.anchors_per_cell,
        positive_iou=config.positive_iou,
        size_option="anchor_scales",
        flat_sizes=False,
        max_detections=config.max_detections,
    )


def _anchors(config: YolactConfig, sizes: AnchorSizes) -> list[Tensor]:
    levels = [
        level_anchors(
            (side, side),
            scales=level,
            aspect_ratios=config.anchor_aspect_ratios,
            image_size=config.image_size,
            square=config.square_anchors,
        )
        for side, level in zip(config.level_sides, sizes, strict=True)
    ]
    return [cxcywh_to_xyxy(level) * config.image_size for level in levels]
