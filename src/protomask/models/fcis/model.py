"""FCIS: one network, all of it convolutions up to the maps that regions are pooled from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.detection.calibration import Calibration
from protomask.models.class_layers import ClassLayer
from protomask.models.fcis.config import BINS, BOX_STDS, GROUPS, STRIDE, FCISConfig
from protomask.models.fcis.geometry import image_geometry
from protomask.models.fcis.proposals import ProposalHead, ProposalMaps, select_proposals
from protomask.models.layers.backbone import build_backbone, dilate_last_stage, use_caffe_pooling, use_caffe_strides
from protomask.models.layers.initial import begin_small
from protomask.ops.boxes import clip_to_image, decode_deltas
from protomask.ops.geometry import PaddedImages
from protomask.ops.psroi import PoolGroups, bin_cells, pool_groups


class Pooled(NamedTuple):
    """What N regions see of the position-sensitive maps.

    Attributes:
        scores: (N, 21, 21, num_classes + 1, 2), background first; of each class outside, then inside the object.
        box_deltas: (N, 4), mean over the region, in units of `protomask.models.fcis.config.BOX_STDS`.

    """

    scores: Tensor
    box_deltas: Tensor

    @property
    def class_logits(self) -> Tensor:
        """(N, num_classes + 1), background first: a region is of a class if each cell is surely inside or outside."""
        return self.scores.max(dim=-1).values.mean(dim=(1, 2))

    def mask_logits(self, classes: Tensor) -> Tensor:
        """(N, 21, 21, 2), outside and inside the object, of one class (N,) for each region, 0 for the background."""
        index = classes[:, None, None, None, None].expand(-1, BINS, BINS, 1, 2)
        return self.scores.gather(3, index)[:, :, :, 0]

    def mask_probs(self, classes: Tensor) -> Tensor:
        """(N, 21, 21) in 0..1 likewise."""
        logits = self.mask_logits(classes)
        return (logits[..., 1] - logits[..., 0]).sigmoid()


class Regions(NamedTuple):
    """What the network says of the regions of one image, first of the proposals, then of the same corrected.

    Attributes:
        boxes: (2 P, 4) xyxy, network pixels; far corners are pixels of the region.
        class_logits: (2 P, num_classes + 1), background first.
        mask_probs: (2 P, 21, 21) in 0..1, of each region's best class.

    """

    boxes: Tensor
    class_logits: Tensor
    mask_probs: Tensor


@dataclass(frozen=True, kw_only=True)
class FCISOutput:
    """What the network says of a batch before anything is chosen.

    Attributes:
        image_sizes: (h, w) of each image within the padded input.
        proposal_maps: of the region proposal network.
        score_maps: (B, (num_classes + 1) * 2 * 7 * 7, h, w): class, outside or inside, group row, group column.
        box_maps: (B, 8 * 7 * 7, h, w), of which the last four of eight outputs are used.
        proposals: for each image (P, 4) xyxy, network pixels, best first.
        objectness: for each image (P,) scores of the proposals.
        regions: of each image; empty in training mode.

    """

    image_sizes: tuple[tuple[int, int], ...]
    proposal_maps: ProposalMaps
    score_maps: Tensor
    box_maps: Tensor
    proposals: list[Tensor]
    objectness: list[Tensor]
    regions: tuple[Regions, ...] = ()


class FCIS(nn.Module):
    """Dilated backbone, region proposals, position-sensitive maps of scores and boxes.

    Args:
        config: defines every layer.
        class_names: name of each label, as many as ``config.num_classes``.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).

    """

    def __init__(self, config: FCISConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config = config
        self.class_names = config.names_of_classes(class_names)
        self.calibration: Calibration | None = None
        self.geometry = image_geometry(config)
        self.backbone = build_backbone(config.backbone, ("C4", "C5"), pretrained=pretrained_backbone)
        if config.caffe_backbone:
            use_caffe_strides(self.backbone)
            use_caffe_pooling(self.backbone)
        dilate_last_stage(self.backbone)
        middle, last = self.backbone.channels
        self.rpn = ProposalHead(middle, config)
        self.narrow = nn.Conv2d(last, config.head_channels, 1)
        self.score_maps = nn.Conv2d(config.head_channels, (config.num_classes + 1) * 2 * GROUPS**2, 1)
        self.box_maps = nn.Conv2d(config.head_channels, 8 * GROUPS**2, 1)
        self._initialize()

    def _initialize(self) -> None:
        """Initialise as the official training does."""
        layers = (self.rpn.conv, self.rpn.logits, self.rpn.box_deltas, self.narrow, self.score_maps, self.box_maps)
        for layer in layers:
            begin_small(layer, std=0.01)

    def forward(self, images: PaddedImages) -> FCISOutput:
        """Predict; regions only in evaluation mode.

        Args:
            images: as ``geometry.batch`` makes them.

        """
        proposal_maps, score_maps, box_maps = self.maps(images.tensors)
        with torch.no_grad():
            chosen = []
            for index, size in enumerate(images.sizes):
                logits, deltas = proposal_maps.of_image(index)
                chosen.append(select_proposals(logits.detach().float(), deltas.detach().float(), size, self.config))
        proposals = [boxes for boxes, _ in chosen]
        regions: tuple[Regions, ...] = ()
        if not self.training:
            regions = tuple(
                look_twice(own_cells(scores.float(), size), own_cells(sides.float(), size), boxes, size)
                for scores, sides, boxes, size in zip(score_maps, box_maps, proposals, images.sizes, strict=True)
            )
        return FCISOutput(
            image_sizes=images.sizes,
            proposal_maps=proposal_maps,
            score_maps=score_maps,
            box_maps=box_maps,
            proposals=proposals,
            objectness=[scores for _, scores in chosen],
            regions=regions,
        )

    def maps(self, images: Tensor) -> tuple[ProposalMaps, Tensor, Tensor]:
        """(B, 3, H, W) to the proposal maps, score maps and box maps."""
        middle, last = self.backbone(images)
        x = F.relu(self.narrow(last))
        return self.rpn(middle), self.score_maps(x), self.box_maps(x)


def look_twice(
    score_maps: Tensor,
    box_maps: Tensor,
    proposals: Tensor,
    size: tuple[int, int],
    pool_groups: PoolGroups = pool_groups,
) -> Regions:
    """Pool the proposals of one image, and the same maps again with the corrected ones.

    Args:
        score_maps: (K, h, w) of the image, see `own_cells`.
        box_maps: (8 * 49, h, w) likewise.
        proposals: (P, 4) xyxy, network pixels.
        size: (h, w) of the image within the network's input.
        pool_groups: what pools; an exported graph brings its own.

    """
    first = pool(score_maps, box_maps, proposals, pool_groups)
    corrected = correct_boxes(proposals, first.box_deltas, size)
    second = pool(score_maps, box_maps, corrected, pool_groups)
    logits = [pooled.class_logits for pooled in (first, second)]
    probs = [
        pooled.mask_probs(own[:, 1:].argmax(dim=1) + 1) for pooled, own in zip((first, second), logits, strict=True)
    ]
    return Regions(torch.cat((proposals, corrected)), torch.cat(logits), torch.cat(probs))


def own_cells(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The cells of (K, h, w) maps that an image of a size (H, W) has: a larger one of the batch may have more."""
    return maps[:, : -(-size[0] // STRIDE), : -(-size[1] // STRIDE)]


def pool(score_maps: Tensor, box_maps: Tensor, boxes: Tensor, pool_groups: PoolGroups = pool_groups) -> Pooled:
    """What regions (N, 4) of one image see of its maps, see `look_twice`."""
    cells = bin_cells(boxes, (score_maps.shape[1], score_maps.shape[2]), bins=BINS, stride=STRIDE)
    scores = pool_groups(score_maps, cells, groups=GROUPS)
    boxes_seen = pool_groups(box_maps, cells, groups=GROUPS)
    return Pooled(scores.view(*scores.shape[:3], scores.shape[3] // 2, 2), boxes_seen.mean(dim=(1, 2))[:, 4:])


def correct_boxes(boxes: Tensor, box_deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 4) regions moved by what they saw, inside the image of a size (h, w)."""
    deltas = box_deltas * box_deltas.new_tensor(BOX_STDS)
    moved = clip_to_image(decode_deltas(deltas, boxes, extent_offset=1.0, limit_above=False), size, 1.0)
    return torch.where(moved.isfinite().all(dim=1, keepdim=True), moved, boxes)  # of a network that diverged


def class_layers(config: FCISConfig) -> tuple[ClassLayer, ...]:
    """The layers whose output depends on the classes."""
    return (ClassLayer(name="score_maps", rows=2 * GROUPS**2),)
