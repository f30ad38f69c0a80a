"""What the configs of all model families have; each family has its own in its folder, which imports no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from protomask.detection.options import NmsMode
from protomask.errors import ConfigError
from protomask.settings import AtLeast, AtMost, Count, Settings, Text, Unit

# Upper limits are far above any use: a damaged file must not ask for gigabytes, or for loops without end.
ImageSide = Annotated[int, AtLeast(32, "pixels"), AtMost(16384)]
Width = Annotated[int, AtLeast(1), AtMost(65536)]
"""Channels of a layer."""
Classes = Annotated[int, AtLeast(1), AtMost(1_000_000)]
Depth = Annotated[int, AtLeast(1), AtMost(16)]
"""Layers, or levels, one after another."""
STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
"""Strides of the levels of every backbone."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Base of the config of a family: what every network has.

    Attributes:
        name: preset this came from.
        num_classes: without background.
        image_size: side of the network input, pixels.
        backbone: name of the network that extracts the features.
        candidate_threshold: what scores no more than this is never looked at.
        nms: one of fast, cross_class_fast, batched, soft_linear, soft_gaussian.
        iou_threshold: overlap above which NMS suppresses.
        max_detections: maximum number of instances per image.

    """

    name: Text
    num_classes: Classes
    image_size: ImageSide
    backbone: Text
    candidate_threshold: Unit = 0.05
    nms: NmsMode = "batched"
    iou_threshold: Unit = 0.5
    max_detections: Count = 100

    @property
    def scores_masks(self) -> bool:
        """Whether the network says how good each mask is."""
        return False

    def names_of_classes(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The names of a network's labels.

        Raises:
            ConfigError: not as many as ``num_classes``.

        """
        if len(class_names) != self.num_classes:
            raise ConfigError(f"class_names: expected {self.num_classes} names (num_classes), got {len(class_names)}")
        return tuple(class_names)

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Further changes that come with these."""
        return {}

    def override(self, **changes: Any) -> Self:
        """A copy with some fields changed; a new ``image_size`` alone also scales what depends on it.

        Raises:
            ConfigError: a field does not exist or its value is wrong.

        """
        if changes.get("image_size") is not None:
            changes["image_size"] = self.checked("image_size", changes["image_size"])
        return self.replace(**{**self._implied_by(changes), **changes})

    def for_input(self, image_size: int) -> Self:
        """The config that predicts with the same weights at another input size: sizes in network pixels stay.

        Raises:
            ConfigError: the network cannot have this size.

        """
        return self.override(image_size=image_size)

    def override_given(self, **changes: Any) -> Self:
        """`override` for those changes that are not None."""
        return self.override(**{name: value for name, value in changes.items() if value is not None})
