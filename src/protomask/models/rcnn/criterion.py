"""The training loss of Mask R-CNN (section 3) and of Mask Scoring R-CNN (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.ops import roi_align

from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.detect import BOX_WEIGHTS, MASK_ROI_SIZE
from protomask.models.rcnn.mask_iou_head import inside_shares, mask_iou_loss, mask_iou_targets
from protomask.ops.boxes import encode_deltas, pairwise_iou
from protomask.ops.losses import shared_count
from protomask.ops.matching import Sampler, in_crowd, sample_balanced
from protomask.structures.target import Target

if TYPE_CHECKING:
    from protomask.models.rcnn.model import MaskRCNN, RCNNOutput

MIN_SIDE = 1e-2
"""Network pixels; thinner objects are not objects to learn."""
_RPN_BETA = 1 / 9

MaskTargets = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class RCNNCriterion(nn.Module):
    """Objectness, proposal box, class, box and mask terms, and mask IoU where the network has that head.

    The network's heads are run here, on the proposals that are chosen to train them. A batch without proposals,
    objects or positives has a finite loss. Crowds are not objects, and what lies in them is not background. Mask and
    mask IoU count as much as the target's ``mask_weights`` say.

    Args:
        network: gives the config and the heads.
        label_smoothing: of the class term (Szegedy et al. 2016, section 7), in [0, 1).

    Attributes:
        sample: (labels (N,), count, share of positives) to the indices that train; 1 or more is positive, 0 background,
            -1 neither.
        mask_targets: (masks (P, H, W) bool, boxes (P, 4), side) to targets (P, side, side) in 0..1, and the share (P,)
            of each object's area within its box.

    """

    def __init__(self, network: MaskRCNN, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing
        self.sample: Sampler = sample_balanced
        config = network.config
        self.mask_targets: MaskTargets = partial(project_masks, aligned=config.conventions.roi_align_aligned)
        self._match_anchors = Matcher(config.rpn_positive_iou, config.rpn_negative_iou, allow_low_quality_matches=True)
        self._match_proposals = Matcher(config.positive_iou, config.positive_iou, allow_low_quality_matches=False)

    def forward(self, output: RCNNOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Score a prediction.

        Args:
            output: of the network in training mode.
            targets: one per image, in the network's frame.

        Returns:
            loss_objectness, loss_rpn_box, loss_class, loss_box, loss_mask, with mask IoU loss_mask_iou, and their sum
            loss_total, scalars.

        """
        config = self.network.config
        objects = [_learnable(target) for target in targets]
        crowds = [target.boxes[target.is_crowd] for target in targets]
        chosen = [
            self._choose(proposals, own, crowd)
            for proposals, own, crowd in zip(output.proposals, objects, crowds, strict=True)
        ]
        roi_logits, roi_deltas = self.network.classify(output.features, [one.boxes for one in chosen])
        # Sums over many anchors and pixels need float32 also where the network ran in less.
        with torch.autocast(roi_logits.device.type, enabled=False):
            loss_objectness, loss_rpn_box = self._proposal_terms(output, objects, crowds)
            loss_class, loss_box = self._box_terms(roi_logits.float(), roi_deltas.float(), chosen)
        loss_mask, loss_mask_iou = self._mask_terms(output, objects, chosen)
        losses = {
            "loss_objectness": config.loss_weight_objectness * loss_objectness,
            "loss_rpn_box": config.loss_weight_rpn_box * loss_rpn_box,
            "loss_class": config.loss_weight_class * loss_class,
            "loss_box": config.loss_weight_box * loss_box,
            "loss_mask": config.loss_weight_mask * loss_mask,
        }
        if self.network.mask_iou_head is not None:
            losses["loss_mask_iou"] = config.loss_weight_mask_iou * loss_mask_iou
        losses["loss_total"] = torch.stack(list(losses.values())).sum()
        return losses

    def label_anchors(
        self, anchors: Tensor, objects: Target, crowd: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """(A,) labels of the anchors (1 object, 0 background, -1 neither) and (A,) the object of each, -1 for none."""
        config = self.network.config
        matched = _matches(self._match_anchors, objects.boxes, anchors, config)
        labels = (matched >= 0).long() - (matched == Matcher.BETWEEN_THRESHOLDS).long()
        labels[(labels == 0) & in_crowd(anchors, crowd, config.crowd_overlap)] = -1
        if config.conventions.anchors_inside_image:
            height, width = image_size
            outside = (anchors[:, :2] < 0).any(dim=1) | (anchors[:, 2] >= width) | (anchors[:, 3] >= height)
            labels[outside] = -1
        return labels, matched

    def _proposal_terms(
        self, output: RCNNOutput, objects: Sequence[Target], crowds: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        config = self.network.config
        anchors = torch.cat(output.anchors)
        logits = torch.cat([level.float() for level in output.objectness_logits], dim=1)
        deltas = torch.cat([level.float() for level in output.rpn_box_deltas], dim=1)
        offset = config.conventions.extent_offset
        chosen_logits, chosen_labels, positive_deltas, wanted = [], [], [], []
        for index, (own, crowd) in enumerate(zip(objects, crowds, strict=True)):
            labels, matched = self.label_anchors(anchors, own, crowd, output.image_sizes[index])
            rows = self.sample(labels, config.rpn_samples, config.rpn_positive_share)
            positive = rows[labels[rows] > 0]
            chosen_logits.append(logits[index, rows])
            chosen_labels.append(labels[rows].float())
            positive_deltas.append(deltas[index, positive])
            wanted.append(encode_deltas(own.boxes[matched[positive]], anchors[positive], extent_offset=offset))
        all_logits, all_labels = torch.cat(chosen_logits), torch.cat(chosen_labels)
        count = _count(all_labels)
        loss_objectness = F.binary_cross_entropy_with_logits(all_logits, all_labels, reduction="sum") / count
        loss_box = F.smooth_l1_loss(torch.cat(positive_deltas), torch.cat(wanted), beta=_RPN_BETA, reduction="sum")
        return loss_objectness, loss_box / count

    def _choose(self, proposals: Tensor, objects: Target, crowd: Tensor) -> _Regions:
        """The proposals of one image that train its heads; the objects themselves are among the candidates."""
        config = self.network.config
        candidates = torch.cat((objects.boxes, proposals)) if len(objects) else proposals
        matched = _matches(self._match_proposals, objects.boxes, candidates, config)
        labels = torch.zeros_like(matched)
        positive = matched >= 0
        labels[positive] = objects.labels[matched[positive]] + 1
        labels[~positive & in_crowd(candidates, crowd, config.crowd_overlap)] = -1
        rows = self.sample(labels, config.roi_samples, config.roi_positive_share)
        positive = positive[rows]
        boxes, owners = candidates[rows], matched[rows].clamp(min=0)
        wanted = boxes.new_zeros(len(rows), 4)
        wanted[positive] = encode_deltas(
            objects.boxes[owners[positive]],
            boxes[positive],
            weights=BOX_WEIGHTS,
            extent_offset=config.conventions.extent_offset,
        )
        return _Regions(boxes, labels[rows], owners, wanted)

    def _box_terms(self, logits: Tensor, deltas: Tensor, chosen: Sequence[_Regions]) -> tuple[Tensor, Tensor]:
        labels = torch.cat([one.labels for one in chosen])
        wanted = torch.cat([one.wanted for one in chosen])
        count = _count(labels)
        positive = (labels > 0).nonzero()[:, 0]
        loss_class = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing) / count
        loss_box = F.smooth_l1_loss(
            deltas[positive, labels[positive]],
            wanted[positive],
            beta=self.network.config.conventions.box_smooth_l1_beta,
            reduction="sum",
        )
        return loss_class, loss_box / count

    def _mask_terms(
        self, output: RCNNOutput, objects: Sequence[Target], chosen: Sequence[_Regions]
    ) -> tuple[Tensor, Tensor]:
        """Mask and mask IoU: the latter's gradient reaches the mask head and the features, too, as published."""
        boxes, labels, targets, shares, trust = [], [], [], [], []
        for own, regions in zip(objects, chosen, strict=True):
            positive = regions.labels > 0
            boxes.append(regions.boxes[positive])
            labels.append(regions.labels[positive] - 1)
            wanted, share = self.mask_targets(own.masks[regions.owners[positive]], boxes[-1], 2 * MASK_ROI_SIZE)
            targets.append(wanted)
            shares.append(share)
            trust.append(own.mask_trust[regions.owners[positive]])
        all_labels = torch.cat(labels)
        roi_features = self.network.roi_features(output.features, boxes, MASK_ROI_SIZE)
        logits = self.network.mask_logits(roi_features, all_labels)
        scores = self.network.mask_scores(roi_features, logits, all_labels)
        with torch.autocast(logits.device.type, enabled=False):
            mask_logits, mask_targets = logits.float(), torch.cat(targets)
            weights = torch.cat(trust)
            loss_mask = F.binary_cross_entropy_with_logits(
                mask_logits, mask_targets, weights[:, None, None], reduction="sum"
            )
            loss_mask = loss_mask / _count(mask_targets)
            if scores is None:
                return loss_mask, loss_mask.new_zeros(())
            wanted = mask_iou_targets(mask_logits, mask_targets, torch.cat(shares))
            return loss_mask, mask_iou_loss(scores.float(), wanted, weights)


def _count(terms: Tensor) -> Tensor:
    return shared_count(torch.tensor(terms.numel(), device=terms.device))


class _Regions(NamedTuple):
    """Regions of one image that train: boxes (R, 4), labels (R,) with 0 background, owners (R,), deltas (R, 4)."""

    boxes: Tensor
    labels: Tensor
    owners: Tensor
    wanted: Tensor


def project_masks(masks: Tensor, boxes: Tensor, side: int, *, aligned: bool = False) -> tuple[Tensor, Tensor]:
    """What the mask head should say of each region.

    Args:
        masks: (P, H, W) bool, the object of each region, network frame.
        boxes: (P, 4) xyxy, network pixels.
        side: of the mask grid.
        aligned: as the network's RoIAlign is.

    Returns:
        targets: (P, side, side) float32 in 0..1.
        shares: (P,) float32, share of the object's area within the region.

    """
    if len(boxes) == 0:
        return boxes.new_zeros(0, side, side), boxes.new_zeros(0)
    images = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)[:, None]
    targets = roi_align(masks[:, None].to(boxes.dtype), torch.cat((images, boxes), dim=1), side, aligned=aligned)
    return targets[:, 0], inside_shares(masks, boxes)


def _matches(matcher: Matcher, objects: Tensor, candidates: Tensor, config: RCNNConfig) -> Tensor:
    """(N,) index of the object of each candidate; negative for background and neither, see torchvision's Matcher."""
    if len(objects) == 0 or len(candidates) == 0:
        return torch.full((len(candidates),), Matcher.BELOW_LOW_THRESHOLD, device=candidates.device)
    grown = candidates.new_tensor([0.0, 0.0, config.conventions.extent_offset, config.conventions.extent_offset])
    overlaps = pairwise_iou(objects + grown, candidates + grown).nan_to_num(0.0)
    matched: Tensor = matcher(overlaps)
    return matched


def _learnable(target: Target) -> Target:
    """The objects of a target: no crowds, and boxes with an area."""
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    return target[~target.is_crowd & (sides > MIN_SIDE).all(dim=1) & sides.isfinite().all(dim=1)]
