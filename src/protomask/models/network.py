"""What every network of this package is, whatever its family."""

from __future__ import annotations

from typing import Any, Protocol

from protomask.detection.calibration import Calibration
from protomask.models.config import ModelConfig
from protomask.models.layers.backbone import Backbone
from protomask.models.layers.module import Module
from protomask.ops.geometry import Geometry


class Network(Module, Protocol):
    """A `torch.nn.Module` that knows its config, its classes and how an image becomes its input."""

    class_names: tuple[str, ...]
    """Name of each label."""
    calibration: Calibration | None
    """Calibration of its scores; None leaves them unchanged."""

    @property
    def config(self) -> ModelConfig:
        """What defines every layer."""

    @property
    def geometry(self) -> Geometry:
        """The way from an image to the network's input."""

    @property
    def backbone(self) -> Backbone:
        """What extracts the features."""

    def forward(self, images: Any) -> Any:
        """A batch as ``geometry.batch`` makes it to what the family's criterion and ``detect`` read."""
