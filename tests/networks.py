"""Networks of known families for tests, with their own types."""

from __future__ import annotations

from typing import Any

from protomask.models.build import build_network
from protomask.models.config import ModelConfig
from protomask.models.rcnn.model import MaskRCNN
from protomask.models.yolact.model import Yolact


def build_yolact(model: str | ModelConfig = "yolact_nano", **options: Any) -> Yolact:
    """`protomask.models.build.build_network`."""
    network = build_network(model, **options)
    assert isinstance(network, Yolact)
    return network


def build_rcnn(model: str | ModelConfig = "mask_rcnn_resnet50_fpn", **options: Any) -> MaskRCNN:
    """`protomask.models.build.build_network`."""
    network = build_network(model, **options)
    assert isinstance(network, MaskRCNN)
    return network
