"""What the check of a data set has to know of an FCIS."""

from __future__ import annotations

from torch import Tensor

from protomask.models.fcis.config import STRIDE, FCISConfig
from protomask.models.fcis.geometry import image_geometry
from protomask.models.fcis.proposals import anchors_of_map
from protomask.ops.anchors import AnchorSizes, NetworkInput


def network_input(config: FCISConfig) -> NetworkInput:
    """The input size of a network, its anchors, and when one of them learns an object."""
    return NetworkInput(
        name=f"{config.name} at {config.image_size} to {config.max_image_size} px",
        resized_size=image_geometry(config).resized_size,
        anchor_sizes=(config.anchor_sizes,),
        anchors=lambda sizes: _anchors(config, sizes),
        anchors_per_cell=len(config.anchor_sizes) * len(config.anchor_aspect_ratios),
        positive_iou=config.rpn_positive_iou,
        size_option="anchor_sizes",
        flat_sizes=True,
        max_detections=config.max_detections,
    )


def _anchors(config: FCISConfig, sizes: AnchorSizes) -> list[Tensor]:
    """Those of the largest input there can be; smaller ones have a part of them."""
    cells = -(-config.max_image_size // STRIDE)
    return [anchors_of_map((cells, cells), config.replace(anchor_sizes=sizes[0]))]
