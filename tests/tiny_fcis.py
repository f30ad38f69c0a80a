"""A small FCIS and images for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.model import FCIS, FCISOutput
from protomask.ops.geometry import PaddedImages

CONFIG = FCISConfig(
    name="test", num_classes=3, image_size=64, max_image_size=128, backbone="resnet18", rpn_channels=16,
    head_channels=16, anchor_sizes=(16.0, 32.0, 64.0), rpn_candidates=100, max_proposals=20, hard_regions=8,
)  # fmt: skip
SIZES = ((64, 85), (64, 64))
"""(H, W) of two images, which the network does not resize."""


def tiny_fcis(**changes: Any) -> FCIS:
    """Untrained but not silent, in evaluation mode; the same each time."""
    torch.manual_seed(0)
    network = FCIS(CONFIG.override(**changes), ("a", "b", "c")).eval()
    for layer in (network.rpn.logits, network.rpn.box_deltas, network.score_maps, network.box_maps):
        nn.init.normal_(layer.weight, std=0.3)
    return network


def some_image(height: int, width: int) -> Tensor:
    """(3, H, W) uint8, the same each time."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def make_batch(network: FCIS, sizes: tuple[tuple[int, int], ...] = SIZES) -> PaddedImages:
    return network.geometry.batch([network.geometry.preprocess(some_image(*size)) for size in sizes])


def train_output(network: FCIS, sizes: tuple[tuple[int, int], ...] = SIZES) -> FCISOutput:
    """In training mode, with batch norm as it is."""
    network.training = True
    try:
        output: FCISOutput = network(make_batch(network, sizes))
    finally:
        network.training = False
    return output
