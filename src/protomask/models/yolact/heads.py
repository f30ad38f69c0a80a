"""The heads of YOLACT and what they predict together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.yolact.config import Norm


class YolactOutput(NamedTuple):
    """What the network predicts for B images and A anchors.

    Attributes:
        box_deltas: (B, A, 4), encoded offsets of `protomask.ops.boxes.encode_boxes`.
        class_logits: (B, A, num_classes + 1), background first.
        mask_coefficients: (B, A, k) in [-1, 1].
        prototypes: (B, h, w, k), not negative.
        anchors: (A, 4) cxcywh, relative to the image.
        semantic_logits: (B, num_classes, h3, w3) on P3 in training, None otherwise.

    """

    box_deltas: Tensor
    class_logits: Tensor
    mask_coefficients: Tensor
    prototypes: Tensor
    anchors: Tensor
    semantic_logits: Tensor | None


class PredictionHead(nn.Module):
    """Boxes, classes and mask coefficients of every anchor, with weights shared by all pyramid levels (figure 4).

    Args:
        in_channels: of every pyramid level.
        anchors_per_cell: anchors at one position.
        num_classes: without background.
        num_prototypes: mask coefficients per anchor.
        num_levels: pyramid levels; with batch norm each has statistics of its own (Tan et al. 2020, EfficientDet).
        norm: normalisation of the shared feature.

    """

    def __init__(
        self,
        in_channels: int,
        *,
        anchors_per_cell: int,
        num_classes: int,
        num_prototypes: int,
        num_levels: int,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.num_outputs = (4, num_classes + 1, num_prototypes)
        self.feature = nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=norm == "none")
        self.level_norms = nn.ModuleList(
            nn.Identity() if norm == "none" else nn.BatchNorm2d(in_channels) for _ in range(num_levels)
        )
        self.box = nn.Conv2d(in_channels, anchors_per_cell * 4, 3, padding=1)
        self.classify = nn.Conv2d(in_channels, anchors_per_cell * (num_classes + 1), 3, padding=1)
        self.mask = nn.Conv2d(in_channels, anchors_per_cell * num_prototypes, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Pyramid levels, finest first, to outputs of all A anchors in the order of `protomask.ops.anchors`.

        Returns:
            box_deltas: (B, A, 4).
            class_logits: (B, A, num_classes + 1), background first.
            mask_coefficients: (B, A, k) in [-1, 1], after tanh.

        """
        outputs: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for level, norm in zip(levels, self.level_norms, strict=True):
            feature = F.relu(norm(self.feature(level)))
            for output, conv, width in zip(
                outputs, (self.box, self.classify, self.mask), self.num_outputs, strict=True
            ):
                output.append(conv(feature).permute(0, 2, 3, 1).reshape(level.shape[0], -1, width))
        box_deltas, class_logits, coefficients = (torch.cat(output, dim=1) for output in outputs)
        return box_deltas, class_logits, torch.tanh(coefficients)
