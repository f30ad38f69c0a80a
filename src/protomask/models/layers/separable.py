"""Depthwise separable convolutions (Howard et al. 2017, MobileNets): most of the accuracy at a fraction of the cost."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SeparableConv(nn.Module):
    """A depthwise convolution, one of 1x1, batch norm and ReLU.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        num_levels: pyramid levels that share the convolutions; each has batch norm of its own (Tan et al. 2020,
            EfficientDet).

    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, num_levels: int = 1
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(num_levels))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """(B, C, h, w) of one of the levels to (B, D, h / stride, w / stride)."""
        return F.relu(self.norms[level](self.pointwise(self.depthwise(x))), inplace=True)
