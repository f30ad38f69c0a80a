"""A small Mask Scoring R-CNN and images for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.ops.geometry import PaddedImages

CONFIG = RCNNConfig(
    name="test", num_classes=3, image_size=64, max_image_size=128, backbone="resnet18", fpn_channels=16,
    head_channels=16, mask_iou=True, anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0), rpn_candidates=100,
    training_rpn_candidates=100, max_proposals=50, training_max_proposals=50,
)  # fmt: skip
Sizes = tuple[tuple[int, int], ...]
SIZES: Sizes = ((64, 85), (64, 64))
"""(H, W) of two images, which the network does not resize."""


def tiny_rcnn(**changes: Any) -> MaskRCNN:
    """Untrained, in evaluation mode; the same each time."""
    torch.manual_seed(0)
    network = MaskRCNN(CONFIG.override(**changes), ("a", "b", "c")).eval()
    if network.mask_iou_head is not None:
        torch.nn.init.constant_(network.mask_iou_head.iou.bias, 0.5)  # untrained, it would call most masks worthless
    return network


def some_image(height: int, width: int) -> Tensor:
    """(3, H, W) uint8, the same each time."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def make_batch(network: MaskRCNN, sizes: Sizes = SIZES) -> PaddedImages:
    return network.geometry.batch([network.geometry.preprocess(some_image(*size)) for size in sizes])


def train_output(network: MaskRCNN, sizes: Sizes = SIZES) -> RCNNOutput:
    """In training mode, with batch norm as it is."""
    network.training = True
    try:
        output: RCNNOutput = network(make_batch(network, sizes))
    finally:
        network.training = False
    return output
