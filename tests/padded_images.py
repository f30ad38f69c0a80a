"""Images of two sizes for networks that take them padded, and what such a network makes of them in training."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor

from protomask.models.fcis.model import FCIS, FCISOutput
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.ops.geometry import PaddedImages

Sizes = tuple[tuple[int, int], ...]
SIZES: Sizes = ((64, 85), (64, 64))
"""(H, W) of two images, which the tiny networks do not resize."""


def some_image(height: int, width: int) -> Tensor:
    """(3, H, W) uint8, the same each time."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def make_batch(network: FCIS | MaskRCNN, sizes: Sizes = SIZES) -> PaddedImages:
    return network.geometry.batch([network.geometry.preprocess(some_image(*size)) for size in sizes])


@overload
def train_output(network: FCIS, sizes: Sizes = SIZES) -> FCISOutput: ...
@overload
def train_output(network: MaskRCNN, sizes: Sizes = SIZES) -> RCNNOutput: ...
def train_output(network: FCIS | MaskRCNN, sizes: Sizes = SIZES) -> FCISOutput | RCNNOutput:
    """In training mode, with batch norm as it is."""
    network.training = True
    try:
        output: FCISOutput | RCNNOutput = network(make_batch(network, sizes))
    finally:
        network.training = False
    return output
