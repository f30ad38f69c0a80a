"""`Target`: the truth of one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError, DataError
from protomask.images.decode import read_image
from protomask.images.draw import draw_objects
from protomask.masks.runs import mask_runs
from protomask.structures.arrays import as_array, check_array, rows_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from protomask.images.decode import ImageSource


@dataclass(frozen=True, kw_only=True)
class Target:
    """Truth of one image: N annotated objects in the frame ``image_size``.

    Attributes:
        boxes: (N, 4) float32, xyxy, pixels of the frame.
        labels: (N,) int64, 0-based, background excluded.
        masks: (N, H, W) bool, same frame.
        is_crowd: (N,) bool; crowd regions excuse detections but are not objects to learn.
        image_size: (H, W) of the frame.
        image_id: id in the data set, used by messages and results.
        mask_weights: (N,) float32 in [0, 1], how much each mask teaches: 1 for one drawn with care, 0 where only the
            box can be trusted; None if all masks have 1.

    Raises:
        DataError: a tensor has the wrong shape or dtype.

    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    is_crowd: Tensor
    image_size: tuple[int, int]
    image_id: int | None = None
    mask_weights: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        name = f"target of image {self.image_id}"
        check_array(f"{name}: boxes", self.boxes, (count, 4), "float32")
        check_array(f"{name}: labels", self.labels, (count,), "int64")
        check_array(f"{name}: masks", self.masks, (count, *self.image_size), "bool")
        check_array(f"{name}: is_crowd", self.is_crowd, (count,), "bool")
        if self.mask_weights is not None:
            check_array(f"{name}: mask_weights", self.mask_weights, (count,), "float32")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Target:
        # A tensor of the same device chooses without a round trip through the CPU.
        chosen = index if getattr(index, "ndim", 0) and hasattr(index, "detach") else rows_of(index, len(self))
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            masks=self.masks[chosen],
            is_crowd=self.is_crowd[chosen],
            mask_weights=None if self.mask_weights is None else self.mask_weights[chosen],
        )

    @property
    def mask_trust(self) -> Tensor:
        """(N,) float32: `mask_weights`, or 1 for every mask if there are none."""
        return self.boxes.new_ones(len(self)) if self.mask_weights is None else self.mask_weights

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        """Return the same truth with its tensors on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            masks=self.masks.to(device, non_blocking=non_blocking),
            is_crowd=self.is_crowd.to(device, non_blocking=non_blocking),
            mask_weights=None if self.mask_weights is None else self.mask_weights.to(device, non_blocking=non_blocking),
        )

    def draw(
        self,
        image: ImageSource,
        *,
        class_names: tuple[str, ...] | None = None,
        color_by: Literal["class", "instance"] = "instance",
        opacity: float = 0.45,
    ) -> NDArray[np.uint8]:
        """Draw the annotated objects on the image.

        Args:
            image: anything `protomask.images.decode.read_image` takes, in the frame of the target.
            class_names: name of each label, for captions; None draws none.
            color_by: what a colour stands for.
            opacity: opacity of the fill, 0..1.

        Returns:
            (H, W, 3) uint8 RGB, a new array.

        Raises:
            DataError: the image cannot be read or its size is not ``image_size``.
            ConfigError: ``opacity`` or ``color_by`` has an impossible value, or a label has no name.

        """
        if color_by not in ("class", "instance"):
            raise ConfigError(f"color_by: expected class or instance, got {color_by!r}")
        labels = as_array(self.labels).tolist()
        if class_names is not None and labels and max(labels) >= len(class_names):
            raise ConfigError(
                f"class_names: expected names of labels up to {max(labels)}, got {len(class_names)} names"
            )
        pixels = read_image(image)
        if pixels.shape[:2] != self.image_size:
            raise DataError(f"image: expected (H, W) = {self.image_size} as annotated, got {pixels.shape[:2]}")
        return draw_objects(
            pixels,
            boxes=as_array(self.boxes),
            masks=[mask_runs(mask) for mask in as_array(self.masks)],
            names=None if class_names is None else [class_names[label] for label in labels],
            color_ids=labels if color_by == "class" else None,
            opacity=opacity,
        )
