"""Weights that layers begin with."""

from __future__ import annotations

from torch import nn


def begin_small(layer: nn.Module, std: float) -> None:
    """Draw the weights of a last layer from a normal distribution around 0, and set its bias to 0."""
    nn.init.normal_(layer.get_parameter("weight"), std=std)
    nn.init.zeros_(layer.get_parameter("bias"))
