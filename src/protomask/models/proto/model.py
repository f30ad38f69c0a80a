"""The modern prototype network, put together in one expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protomask.detection.calibration import Calibration
from protomask.models.class_layers import ClassLayer
from protomask.models.layers.backbone import build_backbone
from protomask.models.layers.fpn import FeaturePyramid, xavier_convolutions
from protomask.models.layers.fused_prototypes import FusedPrototypes
from protomask.models.layers.pafpn import PathAggregation
from protomask.models.layers.protonet import Protonet
from protomask.models.layers.separable import begin_as_identities
from protomask.models.proto.config import POINT_SIDE, ProtoConfig
from protomask.models.proto.geometry import image_geometry
from protomask.models.proto.heads import PointHead, ProtoOutput
from protomask.ops.anchors import pyramid_anchors

_MASK_STD = {"linear": 0.02, "dynamic": 0.05}
"""Spread of the weights that make mask parameters, before training: the logits of all masks begin near zero."""
_SEMANTIC_BIAS = -3.0
"""Before training: most of an image is of no class."""


class ProtoNetwork(nn.Module):
    """Backbone, neck, prototypes and head.

    Args:
        config: defines every layer.
        class_names: name of each label, as many as ``config.num_classes``.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).

    """

    def __init__(self, config: ProtoConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config = config
        self.class_names = config.names_of_classes(class_names)
        self.calibration: Calibration | None = None
        self.geometry = image_geometry(config)
        self.backbone = build_backbone(config.backbone, config.backbone_levels, pretrained=pretrained_backbone)
        channels = config.neck_channels
        self.neck: nn.Module = (
            PathAggregation(self.backbone.channels[1:], channels)
            if config.neck == "pafpn"
            else FeaturePyramid(self.backbone.channels[1:], channels, config.num_levels, "batch")
        )
        self.protonet: nn.Module = (
            FusedPrototypes(
                channels,
                config.prototype_channels,
                config.num_prototypes,
                num_levels=config.num_levels,
                detail_channels=self.backbone.channels[0],
                upsamplings=config.prototype_upsamplings,
                dense=config.prototype_convolutions == "dense",
            )
            if config.prototypes == "fused"
            else Protonet(
                channels,
                config.prototype_channels,
                config.num_prototypes,
                norm="batch",
                upsamplings=config.prototype_upsamplings,
                detail_channels=self.backbone.channels[0],
            )
        )
        self.head = PointHead(
            channels,
            anchors_per_cell=config.anchors_per_cell,
            class_outputs=config.num_classes + (config.score != "quality"),
            mask_parameters=config.mask_parameters,
            num_levels=config.num_levels,
            branches=config.branches,
            depth=config.branch_depth,
            kernel_size=config.output_kernel,
            box_bins=config.box_bins,
            rated=config.score == "rated",
            one_to_one=config.one_to_one,
        )
        self.semantic = nn.Conv2d(channels, config.num_classes, 1)
        self._grids: dict[tuple[Any, ...], Tensor] = {}
        for part in (self.neck, self.protonet, self.head, self.semantic):
            xavier_convolutions(part)
            if config.separable_start == "identity":
                begin_as_identities(part)
        self.head.initialize(quality=config.score == "quality", mask_std=_MASK_STD[config.mask_head])
        if self.semantic.bias is not None:
            nn.init.constant_(self.semantic.bias, _SEMANTIC_BIAS)

    def references(self, grid_sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """(A, 4) float32 cxcywh relative to the image, made once for every set of grid sizes and device."""
        config = self.config
        key = (*grid_sizes, config.image_size, device)  # networks of other sizes share the dictionary
        if key not in self._grids:
            points = config.head == "points"
            # Made by a prediction, they serve training too: ordinary tensors even in inference mode.
            with torch.inference_mode(False):
                self._grids[key] = pyramid_anchors(
                    grid_sizes,
                    scales=[(POINT_SIDE * stride,) for stride in config.strides] if points else config.anchor_scales,
                    aspect_ratios=(1.0,) if points else config.anchor_aspect_ratios,
                    image_size=config.image_size,
                    square=points,
                ).to(device)
        return self._grids[key]

    def forward(self, images: Tensor) -> ProtoOutput:
        """Predict.

        Args:
            images: (B, 3, S, S) float32, normalised by ``geometry``.

        """
        detail, *features = self.backbone(images)
        levels = self.neck(features)
        of_points = self.head(levels)
        grid_sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        fused = self.config.prototypes == "fused"
        return ProtoOutput(
            **of_points,
            prototypes=self.protonet(levels if fused else levels[0], detail),
            references=self.references(grid_sizes, images.device),
            semantic_logits=self.semantic(levels[0]) if self.training else None,
            images=images if self.training else None,
        )


def class_layers(config: ProtoConfig) -> tuple[ClassLayer, ...]:
    """The layers whose output depends on the classes."""
    background, groups = config.score != "quality", config.anchors_per_cell
    second = (ClassLayer(name="head.one_to_one", groups=groups, background=background),) if config.one_to_one else ()
    return (
        ClassLayer(name="head.classify", groups=groups, background=background),
        *second,
        ClassLayer(name="semantic", background=False),
    )
