"""YOLACT (Bolya et al. 2019): one network, put together in one expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protomask.detection.calibration import Calibration
from protomask.models.class_layers import ClassLayer
from protomask.models.layers.backbone import build_backbone
from protomask.models.layers.fpn import FeaturePyramid, xavier_convolutions
from protomask.models.layers.protonet import Protonet
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.geometry import image_geometry
from protomask.models.yolact.heads import PredictionHead, YolactOutput
from protomask.models.yolact.mask_rescoring import MaskRescoring
from protomask.ops.anchors import pyramid_anchors


class Yolact(nn.Module):
    """Backbone, pyramid, Protonet and heads; with deformable blocks and mask rescoring it is YOLACT++.

    Args:
        config: defines every layer.
        class_names: name of each label, as many as ``config.num_classes``.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).

    """

    def __init__(self, config: YolactConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config = config
        self.class_names = config.names_of_classes(class_names)
        self.calibration: Calibration | None = None
        self.geometry = image_geometry(config)
        self.backbone = build_backbone(
            config.backbone,
            config.backbone_levels,
            pretrained=pretrained_backbone,
            deformable_layers=config.deformable_layers,
            deformable_interval=config.deformable_interval,
        )
        self._pyramid_start = int(config.protonet_detail)
        pyramid_channels = self.backbone.channels[self._pyramid_start :]
        self.fpn = FeaturePyramid(
            pyramid_channels,
            config.fpn_channels,
            config.num_levels,
            config.norm,
            relu=config.fpn_relu,
            extra_from=config.fpn_extra_from,
        )
        self.protonet = Protonet(
            config.fpn_channels,
            config.protonet_channels,
            config.num_prototypes,
            norm=config.norm,
            upsamplings=config.protonet_upsamplings,
            detail_channels=self.backbone.channels[0] if config.protonet_detail else 0,
        )
        self.head = PredictionHead(
            config.fpn_channels,
            anchors_per_cell=config.anchors_per_cell,
            num_classes=config.num_classes,
            num_prototypes=config.num_prototypes,
            num_levels=config.num_levels,
            norm=config.norm,
        )
        self.semantic = nn.Conv2d(config.fpn_channels, config.num_classes, 1)
        self.rescoring = (
            MaskRescoring(config.rescoring_channels, config.num_classes) if config.rescoring_channels else None
        )
        self._anchor_grids: dict[tuple[Any, ...], Tensor] = {}
        self._initialize()

    def _initialize(self) -> None:
        """Xavier for every convolution outside the backbone, zero biases, as the official training starts."""
        for part in (self.fpn, self.protonet, self.head, self.semantic):
            xavier_convolutions(part)
        if self.rescoring is not None:
            self.rescoring.initialize()

    def anchors(self, grid_sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """(A, 4) float32 cxcywh relative to the image, made once for every set of grid sizes and device."""
        key = (*grid_sizes, self.config.image_size, device)  # networks of other sizes share the dictionary
        if key not in self._anchor_grids:
            # Made by a prediction, they serve training too: ordinary tensors even in inference mode.
            with torch.inference_mode(False):
                self._anchor_grids[key] = pyramid_anchors(
                    grid_sizes,
                    scales=self.config.anchor_scales,
                    aspect_ratios=self.config.anchor_aspect_ratios,
                    image_size=self.config.image_size,
                    square=self.config.square_anchors,
                ).to(device)
        return self._anchor_grids[key]

    def forward(self, images: Tensor) -> YolactOutput:
        """Predict.

        Args:
            images: (B, 3, S, S) float32, normalised by ``geometry``.

        """
        features = self.backbone(images)
        levels = self.fpn(features[self._pyramid_start :])
        box_deltas, class_logits, mask_coefficients = self.head(levels)
        grid_sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        return YolactOutput(
            box_deltas=box_deltas,
            class_logits=class_logits,
            mask_coefficients=mask_coefficients,
            prototypes=self.protonet(levels[0], features[0] if self._pyramid_start else None),
            anchors=self.anchors(grid_sizes, images.device),
            semantic_logits=self.semantic(levels[0]) if self.training else None,
        )


def class_layers(config: YolactConfig) -> tuple[ClassLayer, ...]:
    """The layers whose output depends on the classes."""
    rescoring = (ClassLayer(name="rescoring.classify", background=False),) if config.rescoring_channels else ()
    return (
        ClassLayer(name="head.classify", groups=config.anchors_per_cell),
        ClassLayer(name="semantic", background=False),
        *rescoring,
    )
