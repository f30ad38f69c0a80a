"""Prototype masks from all levels of a pyramid and the detail of a finer one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.layers.fpn import convolution
from protomask.models.layers.separable import SeparableConv, SharedConv

_DENSE_AT_P3 = 3
"""Dense convolutions before the first upsampling, as in the branch of YOLACT (Bolya et al. 2019, figure 3)."""


class FusedPrototypes(nn.Module):
    """k prototype masks of the whole image: the levels are summed on P3, enlarged, and given the detail of C2.

    The sum of all levels lets a prototype know both where outlines are and what they belong to (Kirillov et al. 2019,
    Panoptic FPN). Prototypes can be negative.

    Args:
        in_channels: of every pyramid level.
        channels: width; each upsampling after the first has half the width before it, at least 8.
        num_prototypes: k.
        num_levels: pyramid levels.
        detail_channels: of the finer backbone level.
        upsamplings: each doubles the resolution, beginning at that of P3.
        dense: ordinary convolutions of 3x3, three of them before the first upsampling, as in YOLACT; otherwise
            separable ones of 5x5.

    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_prototypes: int,
        *,
        num_levels: int,
        detail_channels: int,
        upsamplings: int = 1,
        dense: bool = False,
    ) -> None:
        super().__init__()

        def smooth(width: int) -> nn.Module:
            return SharedConv(width, 1) if dense else SeparableConv(width, width, 5)

        self.lateral = nn.ModuleList(convolution(in_channels, channels, 1, norm="batch") for _ in range(num_levels))
        self.fuse = nn.Sequential(*(smooth(channels) for _ in range(_DENSE_AT_P3))) if dense else smooth(channels)
        self.detail = convolution(detail_channels, channels, 1, norm="batch")
        widths = [max(channels // 2**index, min(channels, 8)) for index in range(max(upsamplings, 1))]
        self.narrow = nn.ModuleList(convolution(wide, own, 1, norm="batch") for wide, own in pairwise(widths))
        self.refine = nn.ModuleList(smooth(width) for width in widths[:upsamplings])
        self.prototypes = nn.Conv2d(widths[-1], num_prototypes, 1)

    def forward(self, levels: Sequence[Tensor], detail: Tensor) -> Tensor:
        """Prototypes of B images.

        Args:
            levels: (B, C, h, w) of P3, P4 and so on.
            detail: (B, D, 2h, 2w) C2 of the backbone; its sides may be a pixel shorter.

        Returns:
            (B, s * h, s * w, k), s = 2 ** upsamplings.

        """
        x = self.lateral[0](levels[0])
        for level, lateral in zip(levels[1:], list(self.lateral)[1:], strict=True):
            x = x + F.interpolate(lateral(level), size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = self.fuse(F.relu(x))
        for index, refine in enumerate(self.refine):
            if index > 0:
                x = F.relu(self.narrow[index - 1](x))
            size = detail.shape[-2:] if index == 0 else (2 * x.shape[-2], 2 * x.shape[-1])
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            if index == 0:
                x = F.relu(x + self.detail(detail))
            x = refine(x)
        prototypes: Tensor = self.prototypes(x)
        return prototypes.permute(0, 2, 3, 1)
