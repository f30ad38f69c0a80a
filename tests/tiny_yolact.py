"""A small untrained YOLACT, and images for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from networks import build_yolact
from protomask.images.decode import Pixels
from protomask.torch_runtime.predictor import TorchPredictor, ready

NAMES = ("nut", "bolt", "gear")
TINY: dict[str, Any] = {
    "class_names": NAMES, "backbone": "shufflenet_v2_x1_0", "image_size": 64, "fpn_channels": 16,
    "protonet_channels": 8, "num_prototypes": 4, "candidate_threshold": 0.0,
}  # fmt: skip


def tiny_yolact(*, sharpness: float = 4, **changes: Any) -> TorchPredictor:
    """On the CPU, as `protomask.load` gives it; the same each time.

    Args:
        sharpness: factor of the head's weights, by which scores differ enough to have an order, but are not all 1.
        changes: fields of the config.

    """
    torch.manual_seed(0)
    network = build_yolact("yolact_nano", **{**TINY, **changes})
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(sharpness)
    return ready(TorchPredictor(network), "cpu")


def block_images(*sizes: tuple[int, int]) -> list[Pixels]:
    """Noise in blocks: what is left of single pixels after resizing hangs on rounding."""
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 256, (-(-h // 8), -(-w // 8), 3), dtype=np.uint8) for h, w in sizes]
    large = [np.kron(block, np.ones((8, 8, 1), dtype=np.uint8)) for block in blocks]
    return [np.ascontiguousarray(image[:h, :w]) for image, (h, w) in zip(large, sizes, strict=True)]
