"""Networks of known families for tests, with their own types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from golden_weights import golden_weights
from protomask.checkpoints import maskrcnn_benchmark
from protomask.checkpoints.io import fill_counters, load_exactly
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


def official_rcnn(golden_dir: Path, model: str) -> MaskRCNN:
    """Mask Scoring R-CNN, or Mask R-CNN, with the golden weights of the official code."""
    tensors = golden_weights(golden_dir / "msrcnn" / "ms_rcnn_r50_fpn.state_dict.json")
    if model.startswith("mask_rcnn"):
        tensors = {key: tensor for key, tensor in tensors.items() if ".maskiou." not in key}
    return load_rcnn(model, maskrcnn_benchmark.rename(tensors), conventions=maskrcnn_benchmark.CONVENTIONS)


def load_rcnn(model: str, tensors: dict[str, Tensor], **options: Any) -> MaskRCNN:
    """A network with these tensors, under our names, in evaluation mode."""
    network = build_rcnn(model, **options)
    load_exactly(network, fill_counters(network, tensors), source=f"golden weights as {model}")
    return network.eval()
