"""The head of Mask Scoring R-CNN (Huang et al. 2019, section 3.2) and what it learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.layers.initial import begin_small
from protomask.ops.losses import shared_count


class MaskIoUHead(nn.Module):
    """Estimates the IoU of a mask from its region's features and the mask itself.

    Args:
        in_channels: of the features.
        num_classes: without background.
        channels: of the convolutions.
        hidden: width of the fully connected layers.
        roi_size: side of the region's feature map; the mask has twice as many cells.

    """

    def __init__(
        self, in_channels: int, num_classes: int, *, channels: int = 256, hidden: int = 1024, roi_size: int = 14
    ) -> None:
        super().__init__()
        widths = (in_channels + 1, channels, channels, channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, channels, 3, stride=2 if index == 3 else 1, padding=1)
            for index, width in enumerate(widths)
        )
        self.fc1 = nn.Linear(channels * ((roi_size + 1) // 2) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.iou = nn.Linear(hidden, num_classes + 1)
        self.initialize()

    def initialize(self) -> None:
        """Initialise as the official training does: Kaiming for layers with a ReLU, small values for the last."""
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        begin_small(self.iou, std=0.01)

    def forward(self, roi_features: Tensor, mask_probs: Tensor) -> Tensor:
        """Estimate.

        Args:
            roi_features: (N, C, s, s), those that the mask head was given.
            mask_probs: (N, 2s, 2s) in 0..1, of the class in question.

        Returns:
            (N, num_classes + 1) IoU by class, background first; not limited to 0..1, as published.

        """
        x = torch.cat((roi_features, F.max_pool2d(mask_probs[:, None], 2, 2)), dim=1)
        for conv in self.convs:
            x = F.relu(conv(x))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        estimate: Tensor = self.iou(x)
        return estimate


def mask_iou_targets(mask_logits: Tensor, mask_targets: Tensor, inside_shares: Tensor) -> Tensor:
    """IoU of predicted masks with whole objects, of which a region may see only a part.

    Args:
        mask_logits: (N, m, m), positive inside the predicted mask.
        mask_targets: (N, m, m) in 0..1, the object within the region.
        inside_shares: (N,) share of the object's area that lies within the region.

    Returns:
        (N,) float32, no gradient.

    """
    predicted = (mask_logits > 0).float()
    truth = (mask_targets > 0.5).float()
    overlap = (predicted * truth).sum(dim=(1, 2))
    whole = truth.sum(dim=(1, 2)) / inside_shares
    union = (predicted.sum(dim=(1, 2)) + whole - overlap).clamp(min=1)
    return (overlap / union).detach()


def mask_iou_loss(estimates: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Half the mean squared error over the masks that overlap their object at all; 0 where none does.

    Args:
        estimates: (N,) IoU of the mask's class.
        targets: (N,), see `mask_iou_targets`.
        weights: (N,) of each mask in the sum; 1 by default.

    """
    learned = targets > 0
    distance = F.mse_loss(estimates[learned], targets[learned], reduction="none")
    if weights is not None:
        distance = distance * weights[learned]
    return 0.5 * distance.sum() / shared_count(learned.sum())


def inside_shares(masks: Tensor, boxes: Tensor) -> Tensor:
    """Share of each object's area that lies within its region.

    Args:
        masks: (N, H, W) bool, network frame.
        boxes: (N, 4) xyxy, network pixels; a pixel counts by its centre.

    Returns:
        (N,) float32, at least 1e-10.

    """
    _, height, width = masks.shape
    y = torch.arange(height, device=masks.device) + 0.5
    x = torch.arange(width, device=masks.device) + 0.5
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:4])
    columns = (x >= boxes[:, 0:1]) & (x < boxes[:, 2:3])
    # One product instead of a window as large as the masks: rows x masks x columns.
    inside = torch.einsum("nh,nhw,nw->n", rows.float(), masks.float(), columns.float())
    whole = masks.flatten(1).sum(dim=1)
    return (inside / whole.clamp(min=1)).clamp(min=1e-10)
