"""Mask R-CNN: one network, put together in one expression from torchvision's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from protomask.detection.calibration import Calibration
from protomask.models.class_layers import ClassLayer
from protomask.models.layers.backbone import build_backbone, use_caffe_strides
from protomask.models.layers.initial import begin_small
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.geometry import image_geometry
from protomask.models.rcnn.mask_iou_head import MaskIoUHead
from protomask.models.rcnn.proposals import anchors_of_levels, select_proposals
from protomask.ops.geometry import PaddedImages

BOX_ROI_SIZE = 7
_CANONICAL_LEVEL, _CANONICAL_SIDE = 4, 224  # a box of 224 x 224 is pooled from P4 (Lin et al. 2017, eq. 1)
_FINEST_LEVEL = 2


@dataclass(frozen=True, kw_only=True)
class RCNNOutput:
    """What the network says of a batch before anything is chosen.

    Attributes:
        features: pyramid levels P2 to P6, (B, C, h, w) each.
        image_sizes: (h, w) of each image within the padded input.
        anchors: for each level (N_level, 4) xyxy, network pixels.
        objectness_logits: for each level (B, N_level).
        rpn_box_deltas: for each level (B, N_level, 4).
        proposals: for each image (P, 4) xyxy, network pixels, best first.
        class_logits: for each image (P, num_classes + 1), background first; empty in training mode.
        box_deltas: for each image (P, num_classes + 1, 4); empty in training mode.

    """

    features: list[Tensor]
    image_sizes: tuple[tuple[int, int], ...]
    anchors: list[Tensor]
    objectness_logits: list[Tensor]
    rpn_box_deltas: list[Tensor]
    proposals: list[Tensor]
    class_logits: tuple[Tensor, ...] = ()
    box_deltas: tuple[Tensor, ...] = ()


class MaskRCNN(nn.Module):
    """Backbone, pyramid, region proposals, box and mask heads; with a `MaskIoUHead` it is Mask Scoring R-CNN.

    Args:
        config: defines every layer.
        class_names: name of each label, as many as ``config.num_classes``.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).

    """

    def __init__(self, config: RCNNConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config = config
        self.class_names = config.names_of_classes(class_names)
        self.calibration: Calibration | None = None
        conventions = config.conventions
        self.geometry = image_geometry(config)
        width = config.fpn_channels
        norm = nn.BatchNorm2d if config.convolutional_heads else None
        self.backbone = build_backbone(config.backbone, config.backbone_levels, pretrained=pretrained_backbone)
        if conventions.stride_in_1x1:
            use_caffe_strides(self.backbone)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = conventions.batch_norm_eps
        self.fpn = FeaturePyramidNetwork(
            list(self.backbone.channels), width, extra_blocks=LastLevelMaxPool(), norm_layer=norm
        )
        self.rpn_head = RPNHead(
            width, len(config.anchor_aspect_ratios), conv_depth=2 if config.convolutional_heads else 1
        )
        self.box_head: nn.Module = (
            FastRCNNConvFCHead((width, BOX_ROI_SIZE, BOX_ROI_SIZE), [width] * 4, [config.head_channels], norm)
            if config.convolutional_heads
            else TwoMLPHead(width * BOX_ROI_SIZE**2, config.head_channels)
        )
        self.box_predictor = FastRCNNPredictor(config.head_channels, config.num_classes + 1)
        self.mask_head = MaskRCNNHeads(width, [width] * 4, 1, norm)
        self.mask_predictor = MaskRCNNPredictor(width, width, config.num_classes + 1)
        # torchvision's masks begin with weights as large as the classes are few: with one class, training diverges.
        layers = {
            "box_predictor.cls_score": 0.01,
            "box_predictor.bbox_pred": 0.001,
            "mask_predictor.mask_fcn_logits": 0.001,
        }
        for name, std in layers.items():
            begin_small(self.get_submodule(name), std)
        self.mask_iou_head = (
            MaskIoUHead(width, config.num_classes, channels=width, hidden=config.head_channels)
            if config.mask_iou
            else None
        )
        self._anchor_grids: dict[tuple[Any, ...], list[Tensor]] = {}

    def anchors(
        self, grid_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int], device: torch.device
    ) -> list[Tensor]:
        """Anchors of every level; kept for the last few input sizes."""
        key = (*grid_sizes, padded_size, device)
        if key not in self._anchor_grids:
            if len(self._anchor_grids) >= 16:
                self._anchor_grids.pop(next(iter(self._anchor_grids)))
            # Made by a prediction, they serve training too: ordinary tensors even in inference mode.
            with torch.inference_mode(False):
                levels = anchors_of_levels(grid_sizes, padded_size, self.config)
                self._anchor_grids[key] = [level.to(device) for level in levels]
        return self._anchor_grids[key]

    def forward(self, images: PaddedImages) -> RCNNOutput:
        """Predict; class logits and box deltas of the proposals only in evaluation mode.

        Args:
            images: as ``geometry.batch`` makes them.

        """
        features = self.pyramid(images.tensors)
        logits, deltas = self.rpn_head(features)
        objectness_logits = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
        rpn_box_deltas = [level.permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in deltas]
        padded_size = (images.tensors.shape[-2], images.tensors.shape[-1])
        grid_sizes = [(level.shape[-2], level.shape[-1]) for level in features]
        anchors = self.anchors(grid_sizes, padded_size, images.tensors.device)
        with torch.no_grad():
            proposals = [
                select_proposals(
                    [level[index].detach().float() for level in objectness_logits],
                    [level[index].detach().float() for level in rpn_box_deltas],
                    anchors,
                    size,
                    self.config,
                    training=self.training,
                )[0]
                for index, size in enumerate(images.sizes)
            ]
        class_logits: tuple[Tensor, ...] = ()
        box_deltas: tuple[Tensor, ...] = ()
        if not self.training:
            all_logits, all_deltas = self.classify(features, proposals)
            counts = [len(boxes) for boxes in proposals]
            class_logits, box_deltas = torch.split(all_logits, counts), torch.split(all_deltas, counts)
        return RCNNOutput(
            features=features,
            image_sizes=images.sizes,
            anchors=anchors,
            objectness_logits=objectness_logits,
            rpn_box_deltas=rpn_box_deltas,
            proposals=proposals,
            class_logits=class_logits,
            box_deltas=box_deltas,
        )

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to levels P2 to P6."""
        levels = self.fpn({str(index): feature for index, feature in enumerate(self.backbone(images))})
        return list(levels.values())

    def roi_features(self, features: Sequence[Tensor], boxes: Sequence[Tensor], roi_size: int) -> Tensor:
        """Pool each box from the level that its size asks for.

        Args:
            features: levels P2 to P6; the last is never pooled from.
            boxes: for each image (N_i, 4) xyxy, network pixels.
            roi_size: side of the pooled maps.

        Returns:
            (sum of N_i, C, roi_size, roi_size), in the order of the boxes.

        """
        conventions = self.config.conventions
        together = torch.cat(list(boxes))
        images = torch.cat([torch.full_like(box[:, :1], index) for index, box in enumerate(boxes)])
        regions = torch.cat((images, together), dim=1)
        assigned = self.roi_levels(together)
        order, pooled = [], []
        for index, (level, stride) in enumerate(zip(features[:-1], self.backbone.strides, strict=True)):
            chosen = (assigned == index).nonzero()[:, 0]
            order.append(chosen)
            # Coordinates need float32 also where the features have less.
            regions_of_level = roi_align(
                level.float(),
                regions[chosen],
                roi_size,
                spatial_scale=1 / stride,
                sampling_ratio=conventions.roi_sampling_ratio,
                aligned=conventions.roi_align_aligned,
            )
            pooled.append(regions_of_level.to(level.dtype))
        return torch.cat(pooled)[torch.cat(order).argsort()]

    def roi_levels(self, boxes: Tensor) -> Tensor:
        """(N,) int64, 0 for P2: which level each of (N, 4) boxes is pooled from."""
        conventions = self.config.conventions
        sides = boxes[:, 2:] - boxes[:, :2] + conventions.extent_offset
        share = (sides[:, 0] * sides[:, 1]).sqrt() / _CANONICAL_SIDE
        eps = conventions.level_eps
        level = torch.log2(share + eps) if conventions.level_eps_inside else torch.log2(share) + eps
        level = (level + _CANONICAL_LEVEL).floor().clamp(_FINEST_LEVEL, _FINEST_LEVEL + len(self.backbone.strides) - 1)
        return level.long() - _FINEST_LEVEL

    def classify(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The box head on all boxes of a batch.

        Returns:
            class_logits: (N, num_classes + 1), background first.
            box_deltas: (N, num_classes + 1, 4).

        """
        logits, deltas = self.box_predictor(self.box_head(self.roi_features(features, boxes, BOX_ROI_SIZE)))
        return logits, deltas.unflatten(1, (-1, 4))

    def mask_logits(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """(N, 2s, 2s) of one class for each region, from (N, C, s, s); labels (N,) 0-based.

        The last layer is only computed for the class in question.
        """
        predictor: Any = self.mask_predictor  # layers by name
        x = predictor.relu(predictor.conv5_mask(self.mask_head(roi_features)))
        last = predictor.mask_fcn_logits
        weight, bias = last.weight[labels + 1, :, 0, 0], last.bias[labels + 1]
        logits: Tensor = torch.einsum("nchw,nc->nhw", x, weight.to(x.dtype)) + bias[:, None, None]
        return logits

    def mask_scores(self, roi_features: Tensor, mask_logits: Tensor, labels: Tensor) -> Tensor | None:
        """(N,) estimated IoU of the masks of (N,) labels, None without a `MaskIoUHead`."""
        if self.mask_iou_head is None:
            return None
        estimates: Tensor = self.mask_iou_head(roi_features, mask_logits.sigmoid())
        return estimates.gather(1, labels[:, None] + 1)[:, 0]


def class_layers(config: RCNNConfig) -> tuple[ClassLayer, ...]:
    """The layers whose output depends on the classes."""
    return (
        ClassLayer(name="box_predictor.cls_score"),
        ClassLayer(name="box_predictor.bbox_pred", rows=4),
        ClassLayer(name="mask_predictor.mask_fcn_logits"),
        *((ClassLayer(name="mask_iou_head.iou"),) if config.mask_iou else ()),
    )
