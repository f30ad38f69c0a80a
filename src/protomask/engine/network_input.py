"""What the check of a data set has to know of a network."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from protomask.data.doctor.network_fit import AnchorSizes, NetworkInput
from protomask.models.config import RCNNConfig, YolactConfig
from protomask.models.rcnn.proposals import LEVEL_STRIDES, anchors_of_levels
from protomask.models.zoo import Network
from protomask.ops.anchors import level_anchors
from protomask.ops.boxes import cxcywh_to_xyxy
from protomask.structures.geometry import padded_size


def network_input(network: Network) -> NetworkInput:
    """The input size of a network, its anchors, and when one of them learns an object."""
    config = network.config
    if isinstance(config, YolactConfig):
        return NetworkInput(
            name=f"{config.name} at {config.image_size} px",
            resized_size=network.geometry.resized_size,
            anchor_sizes=config.anchor_scales,
            anchors=lambda sizes: _yolact_anchors(config, sizes),
            anchors_per_cell=config.anchors_per_cell,
            positive_iou=config.positive_iou,
            size_option="anchor_scales",
            flat_sizes=False,
            max_detections=config.max_detections,
        )
    return NetworkInput(
        name=f"{config.name} at {config.image_size} to {config.max_image_size} px",
        resized_size=network.geometry.resized_size,
        anchor_sizes=tuple((size,) for size in config.anchor_sizes),
        anchors=lambda sizes: _rcnn_anchors(config, sizes),
        anchors_per_cell=len(config.anchor_aspect_ratios),
        positive_iou=config.rpn_positive_iou,
        size_option="anchor_sizes",
        flat_sizes=True,
        max_detections=config.max_detections,
    )


def _yolact_anchors(config: YolactConfig, sizes: AnchorSizes) -> list[Tensor]:
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


def _rcnn_anchors(config: RCNNConfig, sizes: AnchorSizes) -> list[Tensor]:
    """Those of the largest input there can be; smaller ones have a part of them (but where a coarse level rounds)."""
    frame = padded_size([(config.max_image_size, config.max_image_size)], LEVEL_STRIDES[-1])
    grid_sizes = [(frame[0] // stride, frame[1] // stride) for stride in LEVEL_STRIDES]
    config = replace(config, anchor_sizes=tuple(level[0] for level in sizes))
    return anchors_of_levels(grid_sizes, frame, config)
