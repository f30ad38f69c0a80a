"""A small untrained modern prototype network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from protomask.models.build import build_network
from protomask.models.proto.config import ProtoConfig
from protomask.models.proto.model import ProtoNetwork
from protomask.torch_runtime.predictor import TorchPredictor, ready

NAMES = ("nut", "bolt", "gear")
SMALL: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0", "image_size": 64, "neck_channels": 16, "prototype_channels": 8,
    "num_prototypes": 4, "branch_depth": 1,
}  # fmt: skip


def tiny_config(**changes: Any) -> ProtoConfig:
    return ProtoConfig(name="protomask_n", num_classes=len(NAMES), **{**SMALL, **changes})


def tiny_network(*, sharpness: float = 1, **changes: Any) -> ProtoNetwork:
    """The same each time.

    Args:
        sharpness: factor of the last layers' weights, by which boxes and masks differ.
        changes: fields of the config.

    """
    torch.manual_seed(0)
    network = build_network(tiny_config(**changes), class_names=NAMES)
    assert isinstance(network, ProtoNetwork)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.momentum = 1.0  # statistics as after a training
        # Blocks, as in the pictures of the tests: statistics of other pictures multiply what float32 rounds.
        blocks = torch.randn(32, 3, network.config.image_size // 8, network.config.image_size // 8)
        network.train()(blocks.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3))
        for conv in (network.head.box, network.head.mask):
            conv.weight.mul_(sharpness)
    return network


def tiny_proto(*, sharpness: float = 15, **changes: Any) -> TorchPredictor:
    """On the CPU, as `protomask.load` gives it."""
    network = tiny_network(sharpness=sharpness, **{"candidate_threshold": 0.0, **changes})
    return ready(TorchPredictor(network, "protomask_n"), "cpu")
