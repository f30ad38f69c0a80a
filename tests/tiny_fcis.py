"""A small FCIS."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.model import FCIS

CONFIG = FCISConfig(
    name="test", num_classes=3, image_size=64, max_image_size=128, backbone="resnet18", rpn_channels=16,
    head_channels=16, anchor_sizes=(16.0, 32.0, 64.0), rpn_candidates=100, max_proposals=20, hard_regions=8,
)  # fmt: skip


def tiny_fcis(**changes: Any) -> FCIS:
    """Untrained but not silent, in evaluation mode; the same each time."""
    torch.manual_seed(0)
    network = FCIS(CONFIG.override(**changes), ("a", "b", "c")).eval()
    for layer in (network.rpn.logits, network.rpn.box_deltas, network.score_maps, network.box_maps):
        nn.init.normal_(layer.weight, std=0.3)
    return network
