"""FCIS as one graph: from the pixels of an image to boxes, classes, scores and voted masks.

Votes are counted on the pixels of the original image, so the graph must see it, and resizes it itself.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.errors import ConfigError
from protomask.exporting.greedy_nms import nms_by_group
from protomask.exporting.resize import resize_as_opencv
from protomask.models.fcis.config import FCISConfig
from protomask.models.fcis.model import FCIS, FCISOutput, Regions, look_twice
from protomask.models.fcis.proposals import MIN_SIDE, select_proposals, with_far_pixel
from protomask.models.fcis.targets import overlaps
from protomask.ops.boxes import is_at_least
from protomask.ops.geometry import ShortSideGeometry
from protomask.ops.psroi import pool_groups_by_sums
from protomask.ops.voting import count_votes


class FCISGraph(nn.Module):
    """An FCIS from image to masks; the results are those of `protomask.models.fcis.detect`.

    Args:
        network: trained, in evaluation mode; it is run, never changed.
        config: the network's, with the thresholds that the graph shall have.

    Raises:
        ConfigError: an NMS mode that has no graph.

    """

    def __init__(self, network: FCIS, config: FCISConfig) -> None:
        super().__init__()
        if config.nms != "batched":
            raise ConfigError(f"nms: expected batched in an exported file, got {config.nms}")
        self.network = network
        self.config = config

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Find the instances of one image.

        Args:
            image: (1, 3, H, W) uint8 RGB, any size.

        Returns:
            boxes: (D, 4) float32 xyxy, whole pixels of the image.
            labels: (D,) int64, 0-based, background excluded.
            class_scores: (D,) float32, descending.
            masks: (D, 21, 21) float32 in 0..1, each on a grid over its box.
            then what comes before all NMS, which no file keeps: see `proposing_parts`.

        """
        config, geometry = self.config, self.network.geometry
        original_size = (image.shape[2], image.shape[3])
        size, (over, under) = _resized_size(original_size, geometry)
        pixels = geometry.normalize(resize_as_opencv(image[0], size, step=(under, over))[None])
        proposal_maps, score_maps, box_maps = self.network.maps(pixels)
        logits, deltas = proposal_maps.of_image(0)
        proposals, _ = select_proposals(logits, deltas, size, config, nms=partial(_nms, size=size))
        regions = look_twice(score_maps[0], box_maps[0], proposals, size, pool_groups_by_sums)
        boxes, labels, scores, masks = self._elect(regions, original_size, over.float() / under.float())
        return boxes, labels, scores, masks, proposal_maps.logits, proposal_maps.box_deltas

    def _elect(
        self, regions: Regions, original_size: tuple[int, int], scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `protomask.detection.voting.elect`."""
        config = self.config
        usable = (is_at_least(regions.boxes, MIN_SIDE, 1.0) & regions.class_logits.isfinite().all(dim=1)).nonzero()[
            :, 0
        ]
        probs = regions.class_logits[usable].softmax(dim=1)[:, 1:]
        height, width = (torch.scalar_tensor(side, dtype=torch.float32) for side in original_size)
        last = torch.stack((width, height, width, height)) - 1
        boxes = torch.minimum((regions.boxes[usable] / scale).clamp(min=0), last)
        rows, labels = (probs > config.candidate_threshold).nonzero().unbind(dim=1)
        scores = probs[rows, labels]
        span = cast(int, torch.sym_max(*original_size)) + 2
        kept = nms_by_group(with_far_pixel(boxes[rows]), scores, labels, config.iou_threshold, span=span)
        kept = kept[: config.max_detections]
        rows, labels, scores = rows[kept], labels[kept], scores[kept]
        # One detection more than there are: not every runtime can count no votes.
        likely = probs.T[F.pad(labels, (0, 1))]
        voters = overlaps(boxes[F.pad(rows, (0, 1))], boxes) >= config.vote_iou
        weights = likely * voters
        weights = weights / weights.sum(dim=1, keepdim=True)
        sides = torch.stack((height, width))
        voted, shares, there = count_votes(boxes.round(), regions.mask_probs[usable], weights, sides)
        chosen = (there[:-1] > 0).nonzero()[:, 0]
        return voted[:-1][chosen], labels[chosen], scores[chosen], shares[:-1][chosen]


def proposing_parts(network: FCIS, output: FCISOutput) -> tuple[Tensor, ...]:
    """What the region proposal network says of the first image: (1, 2 A, h, w) logits and (1, 4 A, h, w) deltas."""
    return output.proposal_maps.logits[:1], output.proposal_maps.box_deltas[:1]


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, *, size: tuple[int, int]) -> Tensor:
    return nms_by_group(boxes, scores, torch.zeros_like(scores, dtype=torch.int64), iou_threshold, span=size[0])


def _resized_size(size: tuple[int, int], geometry: ShortSideGeometry) -> tuple[tuple[int, int], tuple[Tensor, Tensor]]:
    """See `ShortSideGeometry.resized_size`, and numerator and denominator of the scale.

    Where only the graph will know (H, W), it works them out in whole numbers.
    """
    sides = torch.stack([torch.scalar_tensor(side, dtype=torch.float32).long() for side in size])
    short, long = sides.min(), sides.max()
    is_limited = _rounded(long * geometry.image_size, short) > geometry.max_image_size
    over = torch.where(is_limited, geometry.max_image_size, geometry.image_size)
    under = torch.where(is_limited, long, short)
    resized = _rounded(sides * over, under).clamp(min=1)
    height, width = (cast(int, side.item()) for side in resized)
    for side in (height, width):
        torch._check(side >= 1)
    return (height, width), (over, under)


def _rounded(over: Tensor, under: Tensor) -> Tensor:
    """A quotient of whole numbers, halves to even."""
    whole = over // under
    rest = 2 * (over - whole * under)
    return whole + ((rest > under) | ((rest == under) & (whole % 2 == 1))).long()
