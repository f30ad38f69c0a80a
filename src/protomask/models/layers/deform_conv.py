"""Deformable convolution (Zhu et al. 2019, Deformable ConvNets v2) and which blocks of a ResNet have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from protomask.errors import ConfigError

STAGES = ("layer1", "layer2", "layer3", "layer4")
_SIGMOID_OF_ZERO = 0.5


class ModulatedDeformConv2d(nn.Module):
    """Convolution whose kernel points move and are weighted as a second convolution of the same input says (eq. 1).

    That second convolution starts at zero: no movement, every point weighted by sigmoid(0) = 1/2.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: side of the kernel.
        stride: of both convolutions.
        padding: of both convolutions.
        dilation: of both convolutions.
        groups: of the weights.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        # Vertical and horizontal offset of each kernel point in turn, then the logit of each point's weight.
        self.conv_offset_mask = nn.Conv2d(
            in_channels, 3 * kernel_size**2, kernel_size, stride=stride, padding=padding, dilation=dilation
        )
        nn.init.zeros_(self.conv_offset_mask.weight)
        if self.conv_offset_mask.bias is not None:
            nn.init.zeros_(self.conv_offset_mask.bias)

    @classmethod
    def from_plain(cls, conv: nn.Conv2d) -> ModulatedDeformConv2d:
        """One that computes what an ordinary convolution does, until it is trained."""
        if conv.kernel_size[0] != conv.kernel_size[1] or conv.bias is not None or not isinstance(conv.padding, tuple):
            raise ConfigError(f"deformable convolution: expected a square one without bias to replace, got {conv}")
        deformable = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size[0],
            stride=conv.stride[0], padding=conv.padding[0], dilation=conv.dilation[0], groups=conv.groups,
        )  # fmt: skip
        deformable.take_plain(conv.weight)
        return deformable

    def take_plain(self, weight: Tensor) -> None:
        """Compute what an ordinary convolution with this weight does: twice the weight makes up for sigmoid(0)."""
        with torch.no_grad():
            self.weight.copy_(weight / _SIGMOID_OF_ZERO)
            for parameter in (self.bias, *self.conv_offset_mask.parameters()):
                parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h / stride, w / stride)."""
        points = self.weight.shape[2] * self.weight.shape[3]
        # In float32 also where the rest has less: offsets are coordinates, and the CPU knows nothing else.
        offsets, weights = self.conv_offset_mask(x).float().split([2 * points, points], dim=1)
        out: Tensor = deform_conv2d(
            x.float(), offsets, self.weight, self.bias, stride=(self.stride, self.stride),
            padding=(self.padding, self.padding), dilation=(self.dilation, self.dilation), mask=weights.sigmoid(),
        )  # fmt: skip
        return out


def deformable_blocks(num_blocks: int, deformable: int, interval: int) -> list[int]:
    """Which blocks of a stage are deformable, by the rule of the published YOLACT++ models.

    Args:
        num_blocks: blocks in the stage.
        deformable: how many blocks, counted from the stage's end, may be; the first one only if all may.
        interval: of the others, those whose index it divides.

    """
    first = [0] if num_blocks and deformable >= num_blocks else []
    return first + [i for i in range(1, num_blocks) if i + deformable >= num_blocks and i % interval == 0]


def make_deformable(body: nn.ModuleDict, layers: Sequence[int], interval: int = 1) -> None:
    """Replace the 3x3 convolution ``conv2`` in some residual blocks of a ResNet of any depth.

    Args:
        body: has the stages ``layer1`` to ``layer4``, or the first of them.
        layers: for each stage, how many blocks may be deformable, see `deformable_blocks`.
        interval: see `deformable_blocks`.

    """
    for name, deformable in zip(STAGES, layers, strict=False):
        blocks = list(body[name].children()) if name in body else []
        for index in deformable_blocks(len(blocks), deformable, interval):
            plain = blocks[index].get_submodule("conv2")
            if not isinstance(plain, nn.Conv2d):
                raise ConfigError(f"deformable_layers: expected residual blocks, got {type(blocks[index]).__name__}")
            blocks[index].conv2 = ModulatedDeformConv2d.from_plain(plain)
