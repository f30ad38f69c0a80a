"""The head of the modern prototype models, and what the network predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from protomask.models.layers.separable import SeparableConv, SharedConv
from protomask.models.proto.config import Branches

_PRIOR = 0.05
"""Quality that every point expects before training (Lin et al. 2017, Focal Loss, section 4.1)."""

_POINT_OUTPUTS = ("class_logits", "box_values", "mask_parameters", "quality_logits", "one_to_one_logits", "bin_logits")

BIN_RANGE = 2.5
"""Logarithms of distances that bins stand for reach from its negative to it: from 1/12 to 12 half sides of a point."""


class ProtoOutput(NamedTuple):
    """What the network predicts for B images and A points, or anchors.

    Attributes:
        box_values: (B, A, 4), logarithms of four distances, or corrections of anchors; see `boxes_of`.
        class_logits: (B, A, num_classes) of qualities, or (B, A, num_classes + 1) of classes, background first.
        mask_parameters: (B, A, m), what the masks are made with.
        prototypes: (B, h, w, k).
        references: (A, 4) cxcywh, relative to the image: anchors, or squares about the points.
        quality_logits: (B, A, 1) of the expected IoU of the masks; None where no output of its own says it.
        one_to_one_logits: of the second class branch, as class_logits; None without one.
        semantic_logits: (B, num_classes, h3, w3) on P3 in training, None otherwise.
        bin_logits: (B, A, 4, n) of the values whose means ``box_values`` are, in training; None otherwise, and without
            such values.
        images: (B, 3, S, S) that the network was given, in training; None otherwise.

    """

    box_values: Tensor
    class_logits: Tensor
    mask_parameters: Tensor
    prototypes: Tensor
    references: Tensor
    quality_logits: Tensor | None
    one_to_one_logits: Tensor | None
    semantic_logits: Tensor | None
    bin_logits: Tensor | None
    images: Tensor | None = None


class PointHead(nn.Module):
    """Boxes, class scores and mask parameters of every point, with convolutions shared by all levels.

    Args:
        channels: of every pyramid level.
        anchors_per_cell: points, or anchors, at one position.
        class_outputs: class scores of each of them.
        mask_parameters: numbers that make a mask.
        num_levels: pyramid levels; each has batch norm of its own.
        branches: "decoupled" or "shared".
        depth: separable convolutions of each decoupled branch.
        kernel_size: of the convolutions that give the outputs.
        box_bins: values that each distance is a mean of, or 0.
        rated: whether one more output of each says how good its mask is.
        one_to_one: whether there is a second class branch.

    """

    bins: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        anchors_per_cell: int,
        class_outputs: int,
        mask_parameters: int,
        num_levels: int,
        branches: Branches,
        depth: int,
        kernel_size: int,
        box_bins: int,
        rated: bool,
        one_to_one: bool,
    ) -> None:
        super().__init__()

        def branch() -> nn.ModuleList:
            return nn.ModuleList(SeparableConv(channels, channels, num_levels=num_levels) for _ in range(depth))

        self.shared = SharedConv(channels, num_levels) if branches == "shared" else None
        decoupled = branches == "decoupled"
        self.class_branch = branch() if decoupled else nn.ModuleList()
        self.region_branch = branch() if decoupled else nn.ModuleList()
        self.one_to_one_branch = branch() if one_to_one else nn.ModuleList()

        def output(width: int) -> nn.Conv2d:
            return nn.Conv2d(channels, anchors_per_cell * width, kernel_size, padding=kernel_size // 2)

        self.widths = (class_outputs, 4 * max(box_bins, 1), mask_parameters)
        self.classify, self.box, self.mask = (output(width) for width in self.widths)
        self.rate = output(1) if rated else None
        self.one_to_one = output(class_outputs) if one_to_one else None
        bins = torch.linspace(-BIN_RANGE, BIN_RANGE, box_bins) if box_bins else None
        self.register_buffer("bins", bins, persistent=False)

    def initialize(self, *, quality: bool, mask_std: float) -> None:
        """Begin with the reference boxes, with masks that are unsure, and with low qualities where scores are these."""
        nn.init.normal_(self.mask.weight, std=mask_std)
        nn.init.normal_(self.box.weight, std=0.01)
        for conv in (self.classify, self.one_to_one):
            if quality and conv is not None and conv.bias is not None:
                nn.init.constant_(conv.bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor | None]:
        """Pyramid levels, finest first, to the outputs of all points, by their names in `ProtoOutput`.

        Each is (B, A, ...), in the order of `protomask.ops.anchors`, or None.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in _POINT_OUTPUTS}
        for index, level in enumerate(levels):
            start = level if self.shared is None else self.shared(level, index)
            of_class = _run(self.class_branch, start, index)
            of_region = _run(self.region_branch, start, index)
            found["class_logits"].append(_rows(self.classify(of_class), self.widths[0]))
            boxes = _rows(self.box(of_region), self.widths[1])
            if self.bins is not None:
                bins = boxes.view(*boxes.shape[:-1], 4, len(self.bins))
                boxes = (bins.softmax(dim=-1) * self.bins.to(bins.dtype)).sum(dim=-1)
                if self.training:
                    found["bin_logits"].append(bins)
            found["box_values"].append(boxes)
            found["mask_parameters"].append(_rows(self.mask(of_region), self.widths[2]))
            if self.rate is not None:
                found["quality_logits"].append(_rows(self.rate(of_region), 1))
            if self.one_to_one is not None:
                # Its few positives must not disturb what all points learn.
                own = _run(self.one_to_one_branch, start.detach(), index)
                found["one_to_one_logits"].append(_rows(self.one_to_one(own), self.widths[0]))
        return {name: torch.cat(parts, dim=1) if parts else None for name, parts in found.items()}


def _run(branch: nn.ModuleList, x: Tensor, level: int) -> Tensor:
    for layer in branch:
        x = layer(x, level)
    return x


def _rows(x: Tensor, width: int) -> Tensor:
    """(B, a * width, h, w) to (B, h * w * a, width)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)
