"""Mask R-CNN and Mask Scoring R-CNN as one graph: from the pixels of an image to boxes, classes, scores and masks.

The graph has the shapes of the image it is given: an image of any size comes in, and D, the number of detections, is
what was found, 0 included. Boxes are not clipped to the image, because the grid of a mask covers the whole box; whoever
reads the results clips them.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.errors import ConfigError
from protomask.exporting.greedy_nms import nms_by_group
from protomask.exporting.resize import (
    interpolate_as_torch,
    resize_as_opencv,
    resize_as_pillow,
    resized_size,
    shortfalls,
)
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.detect import MASK_ROI_SIZE, choose
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.models.rcnn.proposals import anchors_of_levels, select_proposals
from protomask.ops.geometry import padded_size


class RCNNGraph(nn.Module):
    """A Mask R-CNN from image to masks.

    The results are those of `protomask.models.rcnn.detect`, before boxes are clipped and masks
    pasted.

    Args:
        network: trained, in evaluation mode; it is run, never changed.
        config: the network's, with the thresholds that the graph shall have.

    Raises:
        ConfigError: an NMS mode that has no graph.

    """

    _shortfalls: Tensor

    def __init__(self, network: MaskRCNN, config: RCNNConfig) -> None:
        super().__init__()
        if config.nms != "batched":
            raise ConfigError(f"nms: expected batched in an exported file, got {config.nms}")
        self.network = network
        self.config = config
        self.register_buffer("_shortfalls", shortfalls(network.geometry), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Find the instances of one image.

        Args:
            image: (1, 3, H, W) uint8 RGB, any size.

        Returns:
            boxes: (D, 4) float32 xyxy, pixels of the image, not clipped to it.
            labels: (D,) int64, 0-based, background excluded.
            class_scores: (D,) float32, descending.
            mask_scores: (D,) float32, only of a network with a `MaskIoUHead`.
            masks: (D, m, m) float32 in 0..1, each on a grid over its box.
            then what comes before all NMS, which no file keeps: see `proposing_parts`.

        """
        network, config = self.network, self.config
        original_size = (image.shape[2], image.shape[3])
        size = self._resized_size(original_size)
        pixels = self._prepare(image, size)
        features = network.pyramid(pixels)
        logits, deltas = network.rpn_head(features)
        grid_sizes = [(level.shape[2], level.shape[3]) for level in features]
        # Boxes of different groups must not meet: neither do they in squares as large as the image and a legacy pixel.
        own_nms = partial(nms_by_group, span=cast(int, torch.sym_max(*size)) + 2)
        objectness_logits = [level[0].permute(1, 2, 0).flatten() for level in logits]
        rpn_box_deltas = [level[0].permute(1, 2, 0).reshape(-1, 4) for level in deltas]
        proposals, _ = select_proposals(
            objectness_logits,
            rpn_box_deltas,
            anchors_of_levels(grid_sizes, (pixels.shape[2], pixels.shape[3]), config),
            size,
            config,
            training=False,
            nms=own_nms,
        )
        class_logits, box_deltas = network.classify(features, [proposals])
        found = choose(proposals, class_logits.softmax(dim=-1), box_deltas, size, config, own_nms)
        # One box more than there are: not every runtime can pool masks of no box.
        boxes, labels = F.pad(found.boxes, (0, 0, 0, 1)), F.pad(found.labels, (0, 1))
        roi_features = network.roi_features(features, [boxes], MASK_ROI_SIZE)
        mask_logits = network.mask_logits(roi_features, labels)
        mask_scores = network.mask_scores(roi_features, mask_logits, labels)
        scores = [found.scores] if mask_scores is None else [found.scores, mask_scores[:-1]]
        ratios = [_scalar(original_size[axis]) / _scalar(size[axis]) for axis in (1, 0)]
        parts = torch.cat(objectness_logits), torch.cat(rpn_box_deltas)
        return found.boxes * torch.stack([*ratios, *ratios]), found.labels, *scores, mask_logits[:-1].sigmoid(), *parts

    def _prepare(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(1, 3, H, W) uint8 to (1, 3, *padded) float32, resized and normalised."""
        geometry = self.network.geometry
        if geometry.resize_method == "float":
            resized = interpolate_as_torch(geometry.normalize(image), size)
        else:
            resize = resize_as_pillow if geometry.resize_method == "pillow" else resize_as_opencv
            resized = geometry.normalize(resize(image[0], size)[None])
        height, width = padded_size((size,), geometry.pad_multiple)
        return F.pad(resized, (0, width - size[1], 0, height - size[0]))

    def _resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """See `ShortSideGeometry.resized_size`; where only the graph will know (H, W), it works the result out."""
        geometry = self.network.geometry
        if not any(isinstance(side, torch.SymInt) for side in size):
            return geometry.resized_size(size)
        resized = resized_size(torch.stack([_scalar(side).long() for side in size]), geometry, self._shortfalls)
        height, width = (cast(int, side.item()) for side in resized)
        for side in (height, width):
            torch._check(side >= 1)
        return height, width


def proposing_parts(network: MaskRCNN, output: RCNNOutput) -> tuple[Tensor, ...]:
    """What the first stage says of the first image: (N,) objectness logits and (N, 4) box deltas of all anchors."""
    return (
        torch.cat([level[0] for level in output.objectness_logits]),
        torch.cat([level[0] for level in output.rpn_box_deltas]),
    )


def _scalar(side: int) -> Tensor:
    return torch.scalar_tensor(side, dtype=torch.float32)
