"""The config of the YOLACT family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, Literal

from protomask.models.config import STRIDES, Depth, ImageSide, Width
from protomask.models.prototype_config import PrototypeModelConfig
from protomask.settings import AtLeast, Count, CountOrZero, NonNegative, NotEmpty, Positive, Text, Unit

Norm = Literal["none", "batch"]
ExtraLevelsFrom = Literal["P5", "C5"]
ResizeMethod = Literal["float", "opencv"]
COCO_ANCHOR_SCALES = ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,))
RESCORING_CHANNELS = (8, 16, 32, 64, 128)
"""Widths of the published network that rescores masks."""


@dataclass(frozen=True, kw_only=True)
class YolactConfig(PrototypeModelConfig):
    """Everything that defines a YOLACT network (Bolya et al. 2019) and how its output is read.

    Attributes:
        image_size: side of the square network input, pixels.
        backbone: name for `protomask.models.layers.backbone.build_backbone`.
        backbone_levels: which of its levels feed the pyramid, finest first; "C3" has stride 8.
        deformable_layers: for each ResNet stage C2 to C5, how many of its blocks may be deformable (YOLACT++); empty
            for none, see `protomask.models.layers.deform_conv.deformable_blocks`.
        deformable_interval: one in this many of those blocks is.
        fpn_channels: width of the pyramid and of the prediction head.
        fpn_relu: rectify the levels that the backbone feeds, as the official code does.
        fpn_extra_from: the coarser levels are made from "P5", the pyramid's coarsest of the others, or from "C5", the
            backbone's coarsest, as it is.
        num_levels: pyramid levels P3, P4, ...
        protonet_channels: width of the Protonet.
        protonet_upsamplings: each doubles the prototypes' resolution, beginning at that of P3; the paper has one.
        protonet_detail: the first of ``backbone_levels`` (twice as fine as the next) feeds the Protonet instead of the
            pyramid.
        num_prototypes: k in the paper.
        rescoring_channels: widths of the network that estimates each mask's IoU (YOLACT++); empty for none.
        norm: normalisation in pyramid, head and Protonet; the official networks have none.
        anchor_scales: side lengths in network pixels, one tuple per level.
        anchor_aspect_ratios: width over height.
        square_anchors: every anchor is a square whatever its ratio, as the published COCO models were trained.
        pixel_mean: RGB, 0..255 scale.
        pixel_std: RGB, 0..255 scale.
        antialias: filter when shrinking images.
        resize_method: how images are resized, see `protomask.ops.geometry.ImageGeometry`; training resizes
            with its augmentation.
        positive_iou: anchors above are positive (see `protomask.ops.matching.Matcher`).
        negative_iou: anchors below are background.
        crowd_overlap: share of an anchor inside a crowd above which it is neutral.
        negatives_per_positive: hard negatives per positive anchor.
        masks_to_train: maximum number of positives of an image in the mask loss.
        rescoring_min_area: masks of this many prototype pixels or fewer do not train the rescoring network.
        loss_weight_box: weight of the box term.
        loss_weight_class: weight of the class term.
        loss_weight_mask: weight of the mask term.
        loss_weight_semantic: weight of the semantic term; 0 leaves the semantic head out of the loss.
        loss_weight_rescoring: weight of the mask rescoring term.
        candidate_threshold: anchors whose best class score is not above this are never looked at.
        max_size_ratio: limit on how many times larger or smaller than its anchor's a box's sides may be; None
            for no limit.

    """

    image_size: ImageSide = 550
    backbone: Text = "resnet101"
    backbone_levels: tuple[Text, ...] = ("C3", "C4", "C5")
    deformable_layers: tuple[CountOrZero, ...] = ()
    deformable_interval: Count = 1
    fpn_channels: Width = 256
    fpn_relu: bool = True
    fpn_extra_from: ExtraLevelsFrom = "P5"
    num_levels: Depth = 5
    protonet_channels: Width = 256
    protonet_upsamplings: Depth = 1
    protonet_detail: bool = False
    num_prototypes: Width = 32
    rescoring_channels: tuple[Width, ...] = ()
    norm: Norm = "none"
    anchor_scales: tuple[tuple[Positive, ...], ...] = COCO_ANCHOR_SCALES
    anchor_aspect_ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (1.0, 0.5, 2.0)
    square_anchors: bool = True
    pixel_mean: tuple[float, float, float] = (123.68, 116.78, 103.94)
    pixel_std: tuple[Positive, Positive, Positive] = (58.40, 57.12, 57.38)
    antialias: bool = False
    resize_method: ResizeMethod = "float"
    positive_iou: Unit = 0.5
    negative_iou: Unit = 0.4
    crowd_overlap: Unit = 0.7
    negatives_per_positive: Count = 3
    masks_to_train: Count = 100
    rescoring_min_area: CountOrZero = 25
    loss_weight_box: NonNegative = 1.5
    loss_weight_class: NonNegative = 1.0
    loss_weight_mask: NonNegative = 6.125
    loss_weight_semantic: NonNegative = 1.0
    loss_weight_rescoring: NonNegative = 25.0
    max_size_ratio: Annotated[float, AtLeast(1)] | None = None

    def _check(self) -> None:
        self._expect(
            "antialias", not (self.antialias and self.resize_method == "opencv"), "False with resize_method opencv"
        )
        pyramid_inputs = len(self.backbone_levels) - self.protonet_detail
        fits = 1 <= pyramid_inputs <= self.num_levels
        self._expect("backbone_levels", fits, "1 to num_levels names for the pyramid")
        self._expect(
            "anchor_scales",
            len(self.anchor_scales) == self.num_levels and len({len(level) for level in self.anchor_scales}) == 1,
            f"equally many positive sizes for each of {self.num_levels} levels",
        )
        self._expect("deformable_layers", len(self.deformable_layers) <= 4, "at most four numbers of blocks")
        self._expect(
            "rescoring_channels",
            self._rescoring_fits(),
            "no more widths than leave a pixel of the prototypes (each halves their sides)",
        )
        self._expect(
            "negative_iou", self.negative_iou <= self.positive_iou, f"at most positive_iou={self.positive_iou}"
        )

    def _rescoring_fits(self) -> bool:
        finest = self.backbone_levels[int(self.protonet_detail)]
        side: int = self.image_size // STRIDES.get(finest, STRIDES["C3"]) * 2**self.protonet_upsamplings
        for _ in self.rescoring_channels:
            side = (side - 3) // 2 + 1
        return side >= 1

    @property
    def scores_masks(self) -> bool:
        """Whether the network has mask rescoring."""
        return bool(self.rescoring_channels)

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at one position of one level."""
        return len(self.anchor_scales[0]) * len(self.anchor_aspect_ratios)

    @property
    def level_sides(self) -> tuple[int, ...]:
        """Side of the square feature map of each level, finest first, with a backbone whose halvings round up."""
        inputs = self.backbone_levels[int(self.protonet_detail) :]
        sides = [ceil(self.image_size / STRIDES[level]) for level in inputs]
        while len(sides) < self.num_levels:
            sides.append(ceil(sides[-1] / 2))
        return tuple(sides)

    @property
    def anchors_per_level(self) -> tuple[int, ...]:
        """Anchors of each level, finest first, see `level_sides`."""
        return tuple(side * side * self.anchors_per_cell for side in self.level_sides)

    def for_input(self, image_size: int) -> YolactConfig:
        """See `ModelConfig.for_input`.

        Anchors keep their pixels, so that an object looks to the network as one of its size did in training: at 384
        pixels `yolact_nano` (256) reaches mask AP 0.53 with them, and 0.37 with anchors of the same share of the image.
        """
        return self.replace(image_size=image_size)

    def at_image_size(self, image_size: int) -> YolactConfig:
        """The same network for another input size: anchors cover the same share of the image.

        Sides are cut to whole pixels, as in the published 400 and 700 pixel models.
        """
        return self.replace(image_size=image_size, anchor_scales=self._anchor_scales_at(image_size))

    def _anchor_scales_at(self, image_size: int) -> tuple[tuple[float, ...], ...]:
        if image_size == self.image_size:
            return self.anchor_scales
        return tuple(
            tuple(float(max(1, int(scale * image_size / self.image_size))) for scale in level)
            for level in self.anchor_scales
        )

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("image_size") is None:
            return {}
        return {"anchor_scales": self._anchor_scales_at(changes["image_size"])}
