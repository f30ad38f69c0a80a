"""The training loss of YOLACT (section 3.4 and the official code's normalisation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.yolact.config import YolactConfig
from protomask.ops.boxes import encode_boxes
from protomask.ops.losses import cropped_mask_bce_sums, mine_hard_negatives, shared_count, smooth_l1_sum
from protomask.ops.masks import crop_windows
from protomask.ops.matching import BACKGROUND, Matcher
from protomask.ops.targets import learnable, relative_boxes, shrink_masks
from protomask.structures.target import Target

if TYPE_CHECKING:
    from protomask.models.yolact.heads import YolactOutput
    from protomask.models.yolact.mask_rescoring import MaskRescoring
    from protomask.models.yolact.model import Yolact


class YolactCriterion(nn.Module):
    """Box, class (with hard negatives), mask and semantic terms, and mask rescoring where the network has it.

    Box, class, mask and rescoring are divided by the positives of the whole batch, semantic by the images. A batch
    without positives has a finite loss, and objects without area are left out. Mask and rescoring count as much as the
    target's ``mask_weights`` say; the semantic term, which tells no instances apart, learns from all masks.

    Args:
        config: of the network.
        rescoring: the network's, which is run here on the masks of the positives.
        label_smoothing: of the class term (Szegedy et al. 2016, section 7), in [0, 1).

    """

    def __init__(
        self, config: YolactConfig, rescoring: MaskRescoring | None = None, *, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.config = config
        self.label_smoothing = label_smoothing
        self.rescoring = rescoring
        self.matcher = Matcher(
            positive_iou=config.positive_iou, negative_iou=config.negative_iou, crowd_overlap=config.crowd_overlap
        )

    @classmethod
    def for_network(cls, network: Yolact, *, label_smoothing: float = 0.0) -> YolactCriterion:
        """The criterion of a network, mask rescoring included where it has that."""
        return cls(network.config, network.rescoring, label_smoothing=label_smoothing)

    def forward(self, output: YolactOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Score a prediction.

        Args:
            output: of a network in training mode; semantic_logits may be None, then that term is 0.
            targets: one per image, in the network's frame.

        Returns:
            loss_box, loss_class, loss_mask, loss_semantic, with mask rescoring loss_rescoring, and their sum
            loss_total, scalars.

        """
        # Sums over thousands of anchors and pixels need float32 also where the network ran in less.
        with torch.autocast(output.class_logits.device.type, enabled=False):
            return self._terms(output, targets)

    def _terms(self, output: YolactOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        objects = [learnable(target) for target in targets]
        matches = [self.match(output.anchors, target, own) for target, own in zip(targets, objects, strict=True)]
        matched_idxs = torch.stack([idxs for idxs, _ in matches])
        matched_labels = torch.stack([labels for _, labels in matches])
        positive = matched_labels > BACKGROUND
        num_positive = shared_count(positive.sum())

        config = self.config
        loss_mask, loss_rescoring = self._mask(output, objects, matched_idxs, positive)
        losses = {
            "loss_box": config.loss_weight_box * self._box(output, objects, matched_idxs, positive) / num_positive,
            "loss_class": config.loss_weight_class * self._class(output, matched_labels) / num_positive,
            "loss_mask": config.loss_weight_mask * loss_mask / num_positive,
            "loss_semantic": config.loss_weight_semantic * self._semantic(output, objects),
        }
        if self.rescoring is not None:
            losses["loss_rescoring"] = config.loss_weight_rescoring * loss_rescoring / num_positive
        losses["loss_total"] = torch.stack(list(losses.values())).sum()
        return losses

    def match(self, anchors: Tensor, target: Target, objects: Target) -> tuple[Tensor, Tensor]:
        """(A,) matched_idxs into ``objects`` and (A,) matched_labels of one image, see `Matcher`."""
        crowd_boxes = relative_boxes(target[target.is_crowd])
        return self.matcher(relative_boxes(objects), objects.labels, anchors, crowd_boxes)

    def _box(self, output: YolactOutput, objects: Sequence[Target], matched_idxs: Tensor, positive: Tensor) -> Tensor:
        wanted = [
            encode_boxes(relative_boxes(own)[idxs[chosen]], output.anchors[chosen])
            for own, idxs, chosen in zip(objects, matched_idxs, positive, strict=True)
        ]
        return smooth_l1_sum(output.box_deltas[positive].float(), torch.cat(wanted))

    def _class(self, output: YolactOutput, matched_labels: Tensor) -> Tensor:
        logits = output.class_logits.float()
        negatives = mine_hard_negatives(
            logits, matched_labels, negatives_per_positive=self.config.negatives_per_positive
        )
        chosen = negatives | (matched_labels > BACKGROUND)
        return F.cross_entropy(
            logits[chosen], matched_labels[chosen], reduction="sum", label_smoothing=self.label_smoothing
        )

    def _mask(
        self, output: YolactOutput, objects: Sequence[Target], matched_idxs: Tensor, positive: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sums of the mask and of the rescoring term."""
        total = output.mask_coefficients.new_zeros((), dtype=torch.float32)
        height, width = output.prototypes.shape[1:3]
        nothing = total.new_zeros(0, height, width)
        samples = [_RescoringSamples(nothing, nothing.bool(), matched_idxs.new_zeros(0), total.new_zeros(0))]
        for image, own in enumerate(objects):
            chosen = positive[image].nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            share = 1.0
            if len(chosen) > self.config.masks_to_train:
                share = len(chosen) / self.config.masks_to_train
                order = torch.randperm(len(chosen), device=chosen.device)
                chosen = chosen[order[: self.config.masks_to_train]]
            prototypes = output.prototypes[image].float()
            logits = torch.einsum("nk,hwk->nhw", output.mask_coefficients[image, chosen].float(), prototypes)
            owners = matched_idxs[image, chosen]
            grid_masks = shrink_masks(own.masks, (height, width))[owners]
            boxes = relative_boxes(own)[owners]
            inside = crop_windows(boxes, (height, width), padding=1)
            sums = cropped_mask_bce_sums(logits, grid_masks, inside)
            # Each object counts alike whatever its size: the sum is divided by the box area in grid cells.
            extent = boxes[:, 2:] - boxes[:, :2]
            trust = own.mask_trust[owners]
            total = total + share * (trust * sums / (extent[:, 0] * width) / (extent[:, 1] * height)).sum()
            if self.rescoring is not None:
                large = grid_masks.flatten(1).sum(dim=1) > self.config.rescoring_min_area
                samples.append(
                    _RescoringSamples(
                        mask_probs=(logits.sigmoid() * inside)[large],
                        truth=grid_masks[large],
                        labels=own.labels[owners][large],
                        weights=share * trust[large],
                    )
                )
        rescoring = total.new_zeros(()) if self.rescoring is None else self._rescoring(samples, self.rescoring)
        return total, rescoring

    def _rescoring(self, samples: Sequence[_RescoringSamples], rescoring: MaskRescoring) -> Tensor:
        """Smooth L1 sum between estimated and measured IoU; the masks learn from it too, as published."""
        mask_probs, truth, labels, weights = (torch.cat(parts) for parts in zip(*samples, strict=True))
        found = mask_probs > 0.5
        intersection = (found & truth).flatten(1).sum(dim=1)
        union = (found | truth).flatten(1).sum(dim=1)
        distance = F.smooth_l1_loss(rescoring(mask_probs, labels), intersection / union, reduction="none")
        return (distance * weights).sum()

    def _semantic(self, output: YolactOutput, objects: Sequence[Target]) -> Tensor:
        if output.semantic_logits is None:
            return output.class_logits.new_zeros((), dtype=torch.float32)
        logits = output.semantic_logits.float()
        batch, _, height, width = logits.shape
        wanted = torch.zeros_like(logits)
        for image, own in enumerate(objects):
            if len(own):
                masks = shrink_masks(own.masks, (height, width)).float()
                wanted[image].index_add_(0, own.labels, masks)
        return F.binary_cross_entropy_with_logits(logits, wanted.clamp(max=1), reduction="sum") / (
            height * width * batch
        )


class _RescoringSamples(NamedTuple):
    """Masks of one image: mask_probs (n, h, w) cropped, truth (n, h, w) bool, labels (n,), weights (n,) in the loss."""

    mask_probs: Tensor
    truth: Tensor
    labels: Tensor
    weights: Tensor
