"""The way from an image to the input of a modern prototype network."""

from __future__ import annotations

from protomask.models.proto.config import ProtoConfig
from protomask.ops.geometry import ImageGeometry


def image_geometry(config: ProtoConfig) -> ImageGeometry:
    """Every image is resized to one square."""
    return ImageGeometry(
        image_size=(config.image_size, config.image_size),
        mean=config.pixel_mean,
        std=config.pixel_std,
        antialias=config.antialias,
        resize_method="float",
    )
