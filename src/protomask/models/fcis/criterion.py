"""The training loss of FCIS (Li et al. 2017, section 3.4), with the official weights and hard example mining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.fcis.config import BINS, BOX_STDS
from protomask.models.fcis.model import Pooled, own_cells, pool
from protomask.models.fcis.proposals import anchors_of_map
from protomask.models.fcis.targets import label_anchors, learnable, overlaps, pixel_boxes, project_masks
from protomask.ops.boxes import encode_deltas
from protomask.ops.matching import Sampler, in_crowd, sample_balanced
from protomask.structures.target import Target

if TYPE_CHECKING:
    from protomask.models.fcis.model import FCIS, FCISOutput

_RPN_BETA = 1 / 9
MaskTargets = Callable[[Target, Tensor, Tensor], Tensor]


class FCISCriterion(nn.Module):
    """Objectness, proposal box, class, box and mask terms, the last three of the hardest regions only.

    An image without proposals, objects or positives has a finite loss. Crowds are not objects, and what lies in them is
    not background. Every image of a batch counts the same.

    Args:
        network: gives the config.
        label_smoothing: of the class term (Szegedy et al. 2016, section 7), in [0, 1).

    Attributes:
        sample: which anchors train, see `protomask.ops.matching.sample_balanced`.
        mask_targets: (objects of an image, (P,) the object of each region, regions (P, 4)) to (P, 21, 21) 0 or 1.

    """

    def __init__(self, network: FCIS, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.config = network.config
        self.label_smoothing = label_smoothing
        self.sample: Sampler = sample_balanced
        self.mask_targets: MaskTargets = _mask_targets

    def forward(self, output: FCISOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Score a prediction.

        Args:
            output: of the network in training mode.
            targets: one per image, in the network's frame.

        Returns:
            loss_objectness, loss_rpn_box, loss_class, loss_box, loss_mask and their sum loss_total, scalars.

        """
        # Sums over many anchors and cells need float32 also where the network ran in less.
        with torch.autocast(output.score_maps.device.type, enabled=False):
            each = [self._of_image(output, index, target) for index, target in enumerate(targets)]
        losses = {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}
        losses["loss_total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _of_image(self, output: FCISOutput, index: int, target: Target) -> dict[str, Tensor]:
        config, size = self.config, output.image_sizes[index]
        objects, crowd = learnable(target), target.boxes[target.is_crowd]
        boxes = pixel_boxes(objects.boxes)
        loss_objectness, loss_rpn_box = self.proposal_terms(output, index, boxes, crowd)
        regions = self._choose(output.proposals[index], boxes, objects, crowd)
        score_maps, box_maps = (own_cells(_full(maps[index]), size) for maps in (output.score_maps, output.box_maps))
        pooled = pool(score_maps, box_maps, regions.boxes)
        terms = region_terms(pooled, regions, label_smoothing=self.label_smoothing)
        hardness = (
            terms.class_term + config.loss_weight_mask * terms.mask_term + config.loss_weight_box * terms.box_term
        )
        hardest = hardness.detach().topk(min(config.hard_regions, len(hardness))).indices
        count = config.hard_regions
        return {
            "loss_objectness": config.loss_weight_objectness * loss_objectness,
            "loss_rpn_box": config.loss_weight_rpn_box * loss_rpn_box,
            "loss_class": config.loss_weight_class * terms.class_term[hardest].sum() / max(len(hardest), 1),
            "loss_box": config.loss_weight_box * terms.box_term[hardest].sum() / count,
            "loss_mask": config.loss_weight_mask * terms.mask_term[hardest].sum() / count,
        }

    def proposal_terms(self, output: FCISOutput, index: int, boxes: Tensor, crowd: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness and box loss of the anchors of one image with objects (M, 4) and crowds (C, 4)."""
        config = self.config
        logits, deltas = (_full(part) for part in output.proposal_maps.of_image(index))
        anchors = anchors_of_map((logits.shape[0], logits.shape[1]), config).to(deltas)
        labels, owners = label_anchors(
            anchors, boxes.to(anchors), output.image_sizes[index],
            positive_iou=config.rpn_positive_iou, negative_iou=config.rpn_negative_iou,
        )  # fmt: skip
        labels[(labels == 0) & in_crowd(anchors, crowd.to(anchors), config.crowd_overlap)] = -1
        rows = self.sample(labels, config.rpn_samples, config.rpn_positive_share)
        positive = rows[labels[rows] > 0]
        loss = F.cross_entropy(logits.flatten(0, 2)[rows], labels[rows], reduction="sum") / max(len(rows), 1)
        wanted = encode_deltas(boxes.to(anchors)[owners[positive]], anchors[positive], extent_offset=1.0)
        found = deltas.flatten(0, 2)[positive]
        box_loss = F.smooth_l1_loss(found, wanted, beta=_RPN_BETA, reduction="sum") / config.rpn_samples
        return loss, box_loss

    def _choose(self, proposals: Tensor, boxes: Tensor, objects: Target, crowd: Tensor) -> TrainingRegions:
        """All proposals of an image and the objects themselves."""
        candidates = torch.cat((proposals, boxes.to(proposals)))
        owners = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
        labels = torch.zeros_like(owners)
        if len(boxes):
            best, owners = overlaps(candidates, boxes.to(candidates)).max(dim=1)
            labels = torch.where(best >= self.config.positive_iou, objects.labels[owners] + 1, 0)
        trains = (labels > 0) | ~in_crowd(candidates, crowd.to(candidates), self.config.crowd_overlap)
        candidates, labels, owners = candidates[trains], labels[trains], owners[trains]
        positive = (labels > 0).nonzero()[:, 0]
        deviations = candidates.new_tensor(BOX_STDS)
        own, regions = owners[positive], candidates[positive]
        deltas = encode_deltas(boxes.to(candidates)[own], regions, extent_offset=1.0) / deviations
        masks = self.mask_targets(objects, own, regions)
        return TrainingRegions(candidates, labels, positive, deltas, masks, objects.mask_trust[own].to(candidates))


class TrainingRegions(NamedTuple):
    """The R regions that may train the heads, P of them positive.

    Attributes:
        boxes: (R, 4) xyxy, network pixels.
        labels: (R,) int64, 0 for the background.
        positive: (P,) int64, which are objects.
        box_deltas: (P, 4) what they should say.
        masks: (P, 21, 21) int64, 0 outside and 1 inside the object.
        mask_weights: (P,) float32, how much each mask counts; None for 1.

    """

    boxes: Tensor
    labels: Tensor
    positive: Tensor
    box_deltas: Tensor
    masks: Tensor
    mask_weights: Tensor | None = None


class RegionTerms(NamedTuple):
    """Loss of each of R regions, without weights: of its class, mean over the cells of its mask, sum over its box."""

    class_term: Tensor
    mask_term: Tensor
    box_term: Tensor


def region_terms(pooled: Pooled, regions: TrainingRegions, *, label_smoothing: float = 0.0) -> RegionTerms:
    """What regions cost; the background has no mask and no box."""
    labels, positive = regions.labels, regions.positive
    class_term = F.cross_entropy(pooled.class_logits, labels, reduction="none", label_smoothing=label_smoothing)
    own = Pooled(pooled.scores[positive], pooled.box_deltas[positive])
    by_cell = F.cross_entropy(own.mask_logits(labels[positive]).permute(0, 3, 1, 2), regions.masks, reduction="none")
    by_mask = by_cell.sum(dim=(1, 2)) / BINS**2
    if regions.mask_weights is not None:
        by_mask = by_mask * regions.mask_weights
    by_side = F.smooth_l1_loss(own.box_deltas, regions.box_deltas, reduction="none")
    mask_term, box_term = (
        torch.zeros_like(class_term).index_add(0, positive, term) for term in (by_mask, by_side.sum(dim=1))
    )
    return RegionTerms(class_term, mask_term, box_term)


def _mask_targets(objects: Target, owners: Tensor, regions: Tensor) -> Tensor:
    return project_masks(objects.masks[owners], pixel_boxes(objects.boxes)[owners], regions)


def _full(tensor: Tensor) -> Tensor:
    """The tensor in float32 or better."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
