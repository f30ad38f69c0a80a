"""Region proposals of an FCIS: anchors on one map, and which of them become regions (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms as torchvision_nms

from protomask.models.fcis.config import STRIDE, FCISConfig
from protomask.ops.anchors import cell_anchors, shifted_anchors
from protomask.ops.boxes import clip_to_image, decode_deltas, is_at_least

MIN_SIDE = 2.0
"""Network pixels; thinner proposals and regions are dropped."""
Nms = Callable[[Tensor, Tensor, float], Tensor]
"""Boxes, scores and the largest IoU that is tolerated to the survivors, best first; as `torchvision.ops.nms`."""


class ProposalMaps(NamedTuple):
    """What the region proposal network says of a batch, A anchors in every cell.

    Attributes:
        logits: (B, 2 A, h, w), first those of all anchors to be background.
        box_deltas: (B, 4 A, h, w), dx, dy, dw, dh of one anchor after the other.

    """

    logits: Tensor
    box_deltas: Tensor

    def of_image(self, index: int) -> tuple[Tensor, Tensor]:
        """(h, w, A, 2) logits, background first, and (h, w, A, 4) deltas of one image."""
        logits, deltas = self.logits[index], self.box_deltas[index]
        height, width = logits.shape[1:]
        by_class = logits.reshape(2, -1, height, width).permute(2, 3, 1, 0)
        return by_class, deltas.reshape(-1, 4, height, width).permute(2, 3, 0, 1)


class ProposalHead(nn.Module):
    """A 3x3 convolution, then for every anchor two logits and four offsets."""

    def __init__(self, in_channels: int, config: FCISConfig) -> None:
        super().__init__()
        anchors = len(config.anchor_sizes) * len(config.anchor_aspect_ratios)
        self.conv = nn.Conv2d(in_channels, config.rpn_channels, 3, padding=1)
        self.logits = nn.Conv2d(config.rpn_channels, 2 * anchors, 1)
        self.box_deltas = nn.Conv2d(config.rpn_channels, 4 * anchors, 1)

    def forward(self, features: Tensor) -> ProposalMaps:
        """(B, C, h, w) features."""
        x = F.relu(self.conv(features))
        return ProposalMaps(self.logits(x), self.box_deltas(x))


def anchors_of_map(map_size: tuple[int, int], config: FCISConfig) -> Tensor:
    """(h * w * A, 4) float32 xyxy, network pixels; order: row, column, ratio, size."""
    by_size = [
        cell_anchors(size, config.anchor_aspect_ratios, stride=STRIDE, kind="legacy") for size in config.anchor_sizes
    ]
    return shifted_anchors(torch.stack(by_size, dim=1).flatten(0, 1), map_size, (STRIDE, STRIDE))


def select_proposals(
    logits: Tensor,
    box_deltas: Tensor,
    image_size: tuple[int, int],
    config: FCISConfig,
    *,
    nms: Nms = torchvision_nms,
) -> tuple[Tensor, Tensor]:
    """The proposals of one image: the best anchors, corrected, after NMS.

    As published, the last row and column of cells count only if they lie in the image as a whole.

    Args:
        logits: (h, w, A, 2), background first.
        box_deltas: (h, w, A, 4).
        image_size: (H, W) of the image within the network's input.
        config: limits.
        nms: what suppresses; an exported graph brings its own.

    Returns:
        boxes: (P, 4) xyxy, network pixels, inside the image, best first.
        scores: (P,) objectness in 0..1.

    """
    anchors = anchors_of_map((logits.shape[0], logits.shape[1]), config).to(box_deltas)
    whole = [torch.arange(count, device=logits.device) < torch.sym_max(side // STRIDE, 1)
             for count, side in zip(logits.shape[:2], image_size, strict=True)]  # fmt: skip
    complete = (whole[0][:, None] & whole[1])[:, :, None].expand(logits.shape[:3]).flatten()
    boxes = decode_deltas(box_deltas.flatten(0, 2), anchors, extent_offset=1.0, limit_above=False)
    boxes = clip_to_image(boxes, image_size, 1.0)
    scores = (logits[..., 1] - logits[..., 0]).flatten().sigmoid()
    # A network that diverged can ask for anything.
    usable = complete & is_at_least(boxes, MIN_SIDE, 1.0) & boxes.isfinite().all(dim=1) & scores.isfinite()
    chosen = usable.nonzero()[:, 0]
    best, order = scores[chosen].topk(torch.sym_min(config.rpn_candidates, chosen.shape[0]))
    boxes = boxes[chosen[order]]
    kept = nms(with_far_pixel(boxes), best, config.rpn_iou_threshold)[: config.max_proposals]
    return boxes[kept], best[kept]


def with_far_pixel(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) whose far corners are pixels of the object, as boxes that end behind them."""
    return boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
