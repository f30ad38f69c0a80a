"""The branch that makes prototype masks from the finest pyramid level (Bolya et al. 2019, figure 3)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.layers.fpn import convolution


class Protonet(nn.Module):
    """k prototype masks of the whole image, finer than P3 (figure 3).

    The prototypes are rectified: unbounded above, never negative.

    Args:
        in_channels: of P3.
        channels: width.
        num_prototypes: k.
        norm: normalisation after every convolution but the last.
        upsamplings: each doubles the resolution; the paper has one.
        detail_channels: width of a finer backbone level that is added after the first upsampling, so that outlines
            need not be guessed from P3 (as the decoder of Chen et al. 2018, DeepLabv3+); 0 for none, as the paper.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_prototypes: int,
        norm: Literal["none", "batch"] = "none",
        upsamplings: int = 1,
        detail_channels: int = 0,
    ) -> None:
        super().__init__()
        self.before = nn.ModuleList(
            convolution(in_channels if index == 0 else channels, channels, 3, norm=norm) for index in range(3)
        )
        self.detail = convolution(detail_channels, channels, 1, norm=norm) if detail_channels else None
        self.after = nn.ModuleList(convolution(channels, channels, 3, norm=norm) for _ in range(upsamplings))
        self.prototypes = nn.Conv2d(channels, num_prototypes, 1)

    def forward(self, finest: Tensor, detail: Tensor | None = None) -> Tensor:
        """Prototypes of B images.

        Args:
            finest: (B, C, h, w) P3.
            detail: (B, D, 2h, 2w) finer backbone level, where the network has one; its sides may be a pixel shorter.

        Returns:
            (B, s * h, s * w, k), s = 2 ** upsamplings.
        """
        x = finest
        for conv in self.before:
            x = F.relu(conv(x))
        for conv in self.after:
            # The finer level may be a pixel short of twice the size, where the image size is not a multiple of 32.
            size = (2 * x.shape[-2], 2 * x.shape[-1]) if detail is None else detail.shape[-2:]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            if self.detail is not None and detail is not None:
                x = x + self.detail(detail)
                detail = None
            x = F.relu(conv(x))
        return F.relu(self.prototypes(x)).permute(0, 2, 3, 1)
