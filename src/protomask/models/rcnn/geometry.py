"""The way from an image to the input of a Mask R-CNN."""

from __future__ import annotations

from protomask.models.rcnn.config import RCNNConfig
from protomask.ops.geometry import ShortSideGeometry


def image_geometry(config: RCNNConfig) -> ShortSideGeometry:
    """Every image keeps its shape and is resized to a short side."""
    conventions = config.conventions
    return ShortSideGeometry(
        image_size=config.image_size,
        max_image_size=config.max_image_size,
        mean=conventions.pixel_mean,
        std=conventions.pixel_std,
        channel_order=conventions.channel_order,
        resize_method=conventions.resize,
        rounding=conventions.resize_rounding,
    )
