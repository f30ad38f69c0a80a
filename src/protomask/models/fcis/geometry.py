"""The way from an image to the input of an FCIS."""

from __future__ import annotations

from protomask.models.fcis.config import FCISConfig
from protomask.ops.geometry import ShortSideGeometry


def image_geometry(config: FCISConfig) -> ShortSideGeometry:
    """Every image keeps its shape and is resized by one factor, in OpenCV's whole grey levels; nothing is padded."""
    return ShortSideGeometry(
        image_size=config.image_size,
        max_image_size=config.max_image_size,
        mean=config.pixel_mean,
        std=config.pixel_std,
        resize_method="opencv",
        rounding="half_even",
        pad_multiple=1,
    )
