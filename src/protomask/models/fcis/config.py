"""The config of the FCIS family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from protomask.detection.options import NmsMode
from protomask.models.config import ImageSide, ModelConfig, Width
from protomask.settings import Count, NonNegative, NotEmpty, Positive, Text, Unit

STRIDE = 16
"""Network pixels per cell of both maps."""
GROUPS = 7
"""Position-sensitive groups along each axis."""
BINS = 21
"""Cells of a mask along each axis."""
BOX_STDS = (0.2, 0.2, 0.5, 0.5)
"""What the outputs of the box maps are multiplied by."""


@dataclass(frozen=True, kw_only=True)
class FCISConfig(ModelConfig):
    """Everything that defines an FCIS (Li et al. 2017); thresholds and counts are the published ones.

    Attributes:
        image_size: short side of the resized image, pixels.
        max_image_size: limit of its long side.
        backbone: name for `protomask.models.layers.backbone.build_backbone`; its last stage is dilated.
        rpn_channels: width of the region proposal network.
        head_channels: width of the maps before the position-sensitive ones.
        caffe_backbone: strides in the first convolution of a bottleneck and a pooling without padding, as the official
            weights have them.
        pixel_mean: RGB, 0..255 scale.
        pixel_std: likewise.
        anchor_sizes: square root of the area of the anchors, network pixels.
        anchor_aspect_ratios: HEIGHT over width.
        rpn_candidates: number of anchors, the best, that become proposals.
        rpn_iou_threshold: overlap above which a better proposal suppresses another.
        max_proposals: number of proposals, the best, that are looked at, twice: as they are and corrected.
        vote_iou: regions that overlap a detection that much vote on its mask.
        rpn_positive_iou: anchors from here on are positive.
        rpn_negative_iou: anchors below are background.
        rpn_samples: anchors of an image that train the RPN.
        rpn_positive_share: maximum share of them that is positive.
        positive_iou: proposals from here on are positive, others are background.
        hard_regions: the regions of an image with the largest loss that train the heads (OHEM).
        crowd_overlap: share of an anchor or proposal inside a crowd above which it does not train.
        loss_weight_objectness: weight of a term of the loss.
        loss_weight_rpn_box: likewise.
        loss_weight_class: likewise.
        loss_weight_box: likewise.
        loss_weight_mask: likewise.
        candidate_threshold: regions whose class score is not above this are never looked at.

    """

    image_size: ImageSide = 600
    max_image_size: ImageSide = 1000
    backbone: Text = "resnet101"
    rpn_channels: Width = 512
    head_channels: Width = 1024
    caffe_backbone: bool = False
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    anchor_sizes: Annotated[tuple[Positive, ...], NotEmpty()] = (64.0, 128.0, 256.0, 512.0)
    anchor_aspect_ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (0.5, 1.0, 2.0)
    rpn_candidates: Count = 6000
    rpn_iou_threshold: Unit = 0.7
    max_proposals: Count = 300
    vote_iou: Unit = 0.5
    rpn_positive_iou: Unit = 0.7
    rpn_negative_iou: Unit = 0.3
    rpn_samples: Count = 256
    rpn_positive_share: Unit = 0.5
    positive_iou: Unit = 0.5
    hard_regions: Count = 128
    crowd_overlap: Unit = 0.7
    loss_weight_objectness: NonNegative = 1.0
    loss_weight_rpn_box: NonNegative = 1.0
    loss_weight_class: NonNegative = 1.0
    loss_weight_box: NonNegative = 1.0
    loss_weight_mask: NonNegative = 10.0
    candidate_threshold: Unit = 0.001
    nms: NmsMode = "batched"
    iou_threshold: Unit = 0.3

    def _check(self) -> None:
        fits = self.max_image_size >= self.image_size
        self._expect("max_image_size", fits, f"a whole number of at least image_size={self.image_size}")
        at_most = self.rpn_negative_iou <= self.rpn_positive_iou
        self._expect("rpn_negative_iou", at_most, f"at most rpn_positive_iou={self.rpn_positive_iou}")

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("image_size") is None:
            return {}
        return {"max_image_size": round(self.max_image_size * changes["image_size"] / self.image_size)}
