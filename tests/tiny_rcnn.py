"""A small Mask Scoring R-CNN."""

from __future__ import annotations

from typing import Any

import torch

from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.model import MaskRCNN

CONFIG = RCNNConfig(
    name="test", num_classes=3, image_size=64, max_image_size=128, backbone="resnet18", fpn_channels=16,
    head_channels=16, mask_iou=True, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), rpn_candidates=100,
    training_rpn_candidates=100, max_proposals=50, training_max_proposals=50,
)  # fmt: skip


def tiny_rcnn(**changes: Any) -> MaskRCNN:
    """Untrained, in evaluation mode; the same each time."""
    torch.manual_seed(0)
    network = MaskRCNN(CONFIG.override(**changes), ("a", "b", "c")).eval()
    if network.mask_iou_head is not None:
        torch.nn.init.constant_(network.mask_iou_head.iou.bias, 0.5)  # untrained, it would call most masks worthless
    return network
