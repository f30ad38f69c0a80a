"""Feature pyramid as YOLACT uses it (Lin et al. 2017; Bolya et al. 2019, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, norm: Literal["none", "batch"] = "none"
) -> nn.Module:
    """A same-size (or strided) convolution, with batch norm instead of the bias where asked."""
    padding = kernel_size // 2
    if norm == "none":
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False), nn.BatchNorm2d(out_channels)
    )


def xavier_convolutions(part: nn.Module) -> None:
    """Xavier weights and zero biases in every convolution, as the official training starts."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class FeaturePyramid(nn.Module):
    """Top-down pyramid: bilinear upsampling, ReLU after the output convolutions, extra levels by strided convolutions.

    There is no ReLU on the extra levels, as in the official network.

    Args:
        in_channels: of the backbone's levels, finest first.
        out_channels: of every pyramid level.
        num_levels: pyramid levels; those beyond the backbone's are made from the coarsest one.
        norm: normalisation after every convolution.
        relu: after the output convolutions.
        extra_from: the first extra level is made from "P5", the coarsest output, or from "C5", the backbone's coarsest
            level.

    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_levels: int = 5,
        norm: Literal["none", "batch"] = "none",
        *,
        relu: bool = True,
        extra_from: Literal["P5", "C5"] = "P5",
    ) -> None:
        super().__init__()
        self.relu = relu
        self.extra_from = extra_from
        self.lateral = nn.ModuleList(convolution(channels, out_channels, 1, norm=norm) for channels in in_channels)
        self.output = nn.ModuleList(convolution(out_channels, out_channels, 3, norm=norm) for _ in in_channels)
        self.extra = nn.ModuleList(
            convolution(
                in_channels[-1] if index == 0 and extra_from == "C5" else out_channels,
                out_channels,
                3,
                stride=2,
                norm=norm,
            )
            for index in range(num_levels - len(in_channels))
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Backbone levels to ``num_levels`` maps of ``out_channels``, finest first."""
        merged: list[Tensor] = []
        above: Tensor | None = None
        for feature, lateral in zip(reversed(features), reversed(self.lateral), strict=True):
            x = lateral(feature)
            if above is not None:
                x = x + F.interpolate(above, size=x.shape[-2:], mode="bilinear", align_corners=False)
            merged.insert(0, x)
            above = x
        levels = [conv(x) for conv, x in zip(self.output, merged, strict=True)]
        if self.relu:
            levels = [F.relu(level) for level in levels]
        coarsest = features[-1] if self.extra_from == "C5" else levels[-1]
        for conv in self.extra:
            coarsest = conv(coarsest)
            levels.append(coarsest)
        return levels
