"""Depthwise separable convolutions (Howard et al. 2017, MobileNets): most of the accuracy at a fraction of the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Fold = Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Conv2d]
"""A convolution that does the work of the batch norm behind it, too."""
_IDENTITY_NOISE = 0.3
"""Spread of the weights of a depthwise convolution that begins as an identity, times the side of its kernel."""


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

    def folded(self, fold: Fold) -> FoldedConv:
        """The same for prediction, without batch norm."""
        return FoldedConv([fold(self.pointwise, norm) for norm in self.levels], self.depthwise)

    @property
    def levels(self) -> list[nn.BatchNorm2d]:
        """Batch norm of each level."""
        return _norms(self.norms)


class SharedConv(nn.Module):
    """A convolution of 3x3, batch norm and ReLU; pyramid levels share the convolution, each has its own batch norm.

    Args:
        channels: of input and output.
        num_levels: pyramid levels.

    """

    def __init__(self, channels: int, num_levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(num_levels))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """(B, C, h, w) of one of the levels to the same shape."""
        return F.relu(self.norms[level](self.conv(x)), inplace=True)

    def folded(self, fold: Fold) -> FoldedConv:
        """The same for prediction, without batch norm."""
        return FoldedConv([fold(self.conv, norm) for norm in self.levels])

    @property
    def levels(self) -> list[nn.BatchNorm2d]:
        """Batch norm of each level."""
        return _norms(self.norms)


class FoldedConv(nn.Module):
    """For each level the convolution with its batch norm folded in, and ReLU.

    Args:
        convs: of each level.
        first: runs before them.

    """

    def __init__(self, convs: Sequence[nn.Conv2d], first: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Identity() if first is None else first
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """Same as the module that was folded."""
        return F.relu(self.convs[level](self.first(x)), inplace=True)


def begin_as_identities(part: nn.Module) -> None:
    """Let the depthwise convolutions of all `SeparableConv` in a part begin as identities with a little noise.

    Each then hands on from the first step what it is given, so that the layers behind it can learn at once.
    """
    for module in part.modules():
        if isinstance(module, SeparableConv):
            weight = module.depthwise.weight
            side = weight.shape[-1]
            with torch.no_grad():
                nn.init.normal_(weight, std=_IDENTITY_NOISE / side)
                weight[:, :, side // 2, side // 2] += 1


def _norms(norms: nn.ModuleList) -> list[nn.BatchNorm2d]:
    return [norm for norm in norms if isinstance(norm, nn.BatchNorm2d)]
