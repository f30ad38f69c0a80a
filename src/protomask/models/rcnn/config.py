"""The config of the Mask R-CNN family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from protomask.models.config import ImageSide, ModelConfig, Width
from protomask.models.rcnn.conventions import Conventions
from protomask.settings import Count, NonNegative, NotEmpty, Positive, Text, Unit


@dataclass(frozen=True, kw_only=True)
class RCNNConfig(ModelConfig):
    """Everything that defines a Mask R-CNN (He et al. 2017) or Mask Scoring R-CNN (Huang et al. 2019).

    Attributes:
        image_size: short side of the resized image, pixels.
        max_image_size: limit of its long side.
        backbone: name for `protomask.models.layers.backbone.build_backbone`.
        backbone_levels: which of its levels feed the pyramid; only C2 to C5, whose strides anchors and RoIs assume.
        fpn_channels: width of pyramid and heads.
        head_channels: width of the fully connected layers.
        convolutional_heads: four convolutions before the fully connected layer of the box head, two in the RPN, batch
            norm in pyramid and heads: the "v2" of torchvision.
        mask_iou: a head estimates the IoU of each mask (Mask Scoring R-CNN).
        conventions: what weights of different origins mean.
        anchor_sizes: square root of the area of the anchors, one for each pyramid level, network pixels.
        anchor_aspect_ratios: HEIGHT over width.
        rpn_candidates: number of anchors of each level, the best, that become proposals.
        rpn_iou_threshold: overlap above which a better proposal suppresses another of its level.
        max_proposals: number of proposals over all levels, the best, that are looked at.
        training_rpn_candidates: in the place of ``rpn_candidates`` while training.
        training_max_proposals: likewise.
        rpn_positive_iou: anchors above are positive.
        rpn_negative_iou: anchors below are background.
        rpn_samples: anchors of an image that train the RPN.
        rpn_positive_share: maximum share of them that is positive.
        positive_iou: proposals from here on are positive, others are background.
        roi_samples: proposals of an image that train the heads.
        roi_positive_share: maximum share of them that is positive.
        crowd_overlap: share of an anchor or proposal inside a crowd above which it does not train.
        loss_weight_objectness: weight of a term of the loss.
        loss_weight_rpn_box: likewise.
        loss_weight_class: likewise.
        loss_weight_box: likewise.
        loss_weight_mask: likewise.
        loss_weight_mask_iou: likewise.
        candidate_threshold: boxes whose class score is not above this are never looked at.

    """

    image_size: ImageSide = 800
    max_image_size: ImageSide = 1333
    backbone: Text = "resnet50"
    backbone_levels: tuple[Text, ...] = ("C2", "C3", "C4", "C5")
    fpn_channels: Width = 256
    head_channels: Width = 1024
    convolutional_heads: bool = False
    mask_iou: bool = False
    conventions: Conventions = field(default_factory=Conventions)
    anchor_sizes: tuple[Positive, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_aspect_ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (0.5, 1.0, 2.0)
    rpn_candidates: Count = 1000
    rpn_iou_threshold: Unit = 0.7
    max_proposals: Count = 1000
    training_rpn_candidates: Count = 2000
    training_max_proposals: Count = 2000
    rpn_positive_iou: Unit = 0.7
    rpn_negative_iou: Unit = 0.3
    rpn_samples: Count = 256
    rpn_positive_share: Unit = 0.5
    positive_iou: Unit = 0.5
    roi_samples: Count = 512
    roi_positive_share: Unit = 0.25
    crowd_overlap: Unit = 0.7
    loss_weight_objectness: NonNegative = 1.0
    loss_weight_rpn_box: NonNegative = 1.0
    loss_weight_class: NonNegative = 1.0
    loss_weight_box: NonNegative = 1.0
    loss_weight_mask: NonNegative = 1.0
    loss_weight_mask_iou: NonNegative = 1.0

    @property
    def scores_masks(self) -> bool:
        """Whether the network has a head for the IoU of masks."""
        return self.mask_iou

    def _check(self) -> None:
        fits = self.max_image_size >= self.image_size
        self._expect("max_image_size", fits, f"a whole number of at least image_size={self.image_size}")
        self._expect("backbone_levels", self.backbone_levels == ("C2", "C3", "C4", "C5"), "C2, C3, C4, C5")
        levels = len(self.backbone_levels) + 1
        fits = len(self.anchor_sizes) == levels
        self._expect("anchor_sizes", fits, f"{levels} positive sizes, one more than backbone_levels")
        at_most = self.rpn_negative_iou <= self.rpn_positive_iou
        self._expect("rpn_negative_iou", at_most, f"at most rpn_positive_iou={self.rpn_positive_iou}")

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("image_size") is None:
            return {}
        return {"max_image_size": round(self.max_image_size * changes["image_size"] / self.image_size)}
