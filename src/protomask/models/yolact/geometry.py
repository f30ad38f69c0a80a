"""The way from an image to the input of a YOLACT."""

from __future__ import annotations

from protomask.models.yolact.config import YolactConfig
from protomask.ops.geometry import ImageGeometry


def image_geometry(config: YolactConfig) -> ImageGeometry:
    """Every image is resized to one square."""
    return ImageGeometry(
        image_size=(config.image_size, config.image_size),
        mean=config.pixel_mean,
        std=config.pixel_std,
        antialias=config.antialias,
        resize_method=config.resize_method,
    )
