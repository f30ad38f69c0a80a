"""Fast mask re-scoring (YOLACT++, section 4.1): a small network that estimates the IoU of a predicted mask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.layers.fpn import xavier_convolutions


class MaskRescoring(nn.Module):
    """3x3 convolutions of stride 2 without padding, a 1x1 convolution to the classes, and the maximum over the rest.

    Args:
        channels: width of each 3x3 convolution.
        num_classes: without background.

    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = [1, *channels]
        self.layers = nn.ModuleList(nn.Conv2d(width, following, 3, stride=2) for width, following in pairwise(widths))
        self.classify = nn.Conv2d(widths[-1], num_classes, 1)

    def initialize(self) -> None:
        """Xavier weights; every class starts at an IoU of 0.5, or the last rectifier could silence it for good."""
        xavier_convolutions(self)
        if self.classify.bias is not None:
            nn.init.constant_(self.classify.bias, 0.5)

    def forward(self, mask_probs: Tensor, labels: Tensor) -> Tensor:
        """Estimate the quality of N masks.

        Args:
            mask_probs: (N, h, w) float32 in [0, 1], on the prototype grid, zero outside their boxes.
            labels: (N,) int64, the class whose estimate is asked for.

        Returns:
            (N,) float32 IoU, not negative; nothing keeps it below 1.

        """
        x = mask_probs[:, None]
        for conv in self.layers:
            x = F.relu(conv(x))
        by_class = F.relu(self.classify(x)).amax(dim=(2, 3))
        return by_class.gather(1, labels[:, None])[:, 0]
