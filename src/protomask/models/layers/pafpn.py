"""A light path aggregation pyramid (Liu et al. 2018, PANet; Lyu et al. 2022, RTMDet): top-down, then bottom-up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.layers.fpn import convolution
from protomask.models.layers.separable import SeparableConv


class PathAggregation(nn.Module):
    """Levels of one width that have seen all others, by sums and separable convolutions.

    Args:
        in_channels: of the backbone's levels, finest first.
        out_channels: of every pyramid level.
        kernel_size: of the depthwise convolutions.

    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(convolution(channels, out_channels, 1, norm="batch") for channels in in_channels)
        steps = len(in_channels) - 1
        self.down = nn.ModuleList(SeparableConv(out_channels, out_channels, kernel_size) for _ in range(steps))
        self.shrink = nn.ModuleList(SeparableConv(out_channels, out_channels, 3, stride=2) for _ in range(steps))
        self.up = nn.ModuleList(SeparableConv(out_channels, out_channels, kernel_size) for _ in range(steps))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Backbone levels to as many maps of ``out_channels``, finest first."""
        levels = [F.relu(lateral(feature)) for feature, lateral in zip(features, self.lateral, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            above = F.interpolate(levels[index + 1], size=levels[index].shape[-2:], mode="nearest")
            levels[index] = self.down[index](levels[index] + above)
        for index in range(1, len(levels)):
            levels[index] = self.up[index - 1](levels[index] + self.shrink[index - 1](levels[index - 1]))
        return levels
