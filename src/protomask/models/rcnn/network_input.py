"""What the check of a data set has to know of a Mask R-CNN."""

from __future__ import annotations

from torch import Tensor

from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.geometry import image_geometry
from protomask.models.rcnn.proposals import LEVEL_STRIDES, anchors_of_levels
from protomask.ops.anchors import AnchorSizes, NetworkInput
from protomask.ops.geometry import padded_size


def network_input(config: RCNNConfig) -> NetworkInput:
    """The input size of a network, its anchors, and when one of them learns an object."""
    return NetworkInput(
        name=f"{config.name} at {config.image_size} to {config.max_image_size} px",
        resized_size=image_geometry(config).resized_size,
        anchor_sizes=tuple((size,) for size in config.anchor_sizes),
        anchors=lambda sizes: _anchors(config, sizes),
        anchors_per_cell=len(config.anchor_aspect_ratios),
        positive_iou=config.rpn_positive_iou,
        size_option="anchor_sizes",
        flat_sizes=True,
        max_detections=config.max_detections,
    )


def _anchors(config: RCNNConfig, sizes: AnchorSizes) -> list[Tensor]:
    """Those of the largest input there can be; smaller ones have a part of them (but where a coarse level rounds)."""
    frame = padded_size([(config.max_image_size, config.max_image_size)], LEVEL_STRIDES[-1])
    grid_sizes = [(frame[0] // stride, frame[1] // stride) for stride in LEVEL_STRIDES]
    return anchors_of_levels(grid_sizes, frame, config.replace(anchor_sizes=tuple(level[0] for level in sizes)))
