"""From what a Mask R-CNN predicts to what was found: boxes by class, NMS, masks, original frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from protomask.errors import ConfigError
from protomask.models.config import NmsMode
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.proposals import BatchedNms, clip_to_image, greedy_nms, is_at_least
from protomask.ops.boxes import decode_deltas
from protomask.ops.nms import cross_class_fast_nms, fast_nms, soft_nms
from protomask.structures.instances import Instances, RegionMasks

if TYPE_CHECKING:
    from protomask.models.rcnn.model import MaskRCNN, RCNNOutput

BOX_WEIGHTS = (10.0, 5.0)
"""Factors of the box head's centre and size offsets."""
MASK_ROI_SIZE = 14


class Detections(NamedTuple):
    """Boxes of one image that were chosen: (N, 4) xyxy network pixels, (N,) labels, (N,) class scores, best first."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class RCNNPostprocess:
    """Reads the output of a `MaskRCNN`, whose mask heads run here, on the chosen boxes alone."""

    def __init__(self, network: MaskRCNN) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(
        self,
        output: RCNNOutput,
        original_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.0,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        nms: NmsMode | None = None,
        candidate_threshold: float | None = None,
    ) -> list[Instances]:
        """Read a batch.

        Args:
            output: of the network in evaluation mode, B images.
            original_sizes: (H, W) of each image before it was resized.
            score_threshold: return only instances whose class score is above this; 0 returns all.
            iou_threshold: overlap above which NMS suppresses.
            max_detections: at most so many instances per image.
            nms: fast, cross_class_fast, batched, soft_linear or soft_gaussian.
            candidate_threshold: only boxes whose class score is above this are looked at.

        Returns:
            One `Instances` per image, on the CPU, boxes clipped to the image, in the order of their class scores also
            where there are mask scores (which have no part in ``score_threshold`` either, as published).

        Raises:
            ConfigError: an option is out of range.

        """
        if not 0 <= score_threshold <= 1:
            raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {score_threshold}")
        config = self.network.config.override_given(
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            nms=nms,
            candidate_threshold=candidate_threshold,
        )
        # What scores no more than asked for suppresses nothing better.
        config = config.override(candidate_threshold=max(config.candidate_threshold, score_threshold))
        if not output.class_logits:
            raise ConfigError("output: expected that of a network in evaluation mode, got one in training mode")
        found = []
        for proposals, logits, deltas, size in zip(
            output.proposals, output.class_logits, output.box_deltas, output.image_sizes, strict=True
        ):
            detections = choose(proposals, logits.float().softmax(dim=-1), deltas.float(), size, config)
            above = detections.scores > score_threshold if score_threshold > 0 else slice(None)
            found.append(Detections(*(part[above] for part in detections)))

        # All images of the batch together, each with its own masks: their order is that of the boxes.
        labels = torch.cat([one.labels for one in found])
        roi_features = self.network.roi_features(output.features, [one.boxes for one in found], MASK_ROI_SIZE)
        mask_logits = self.network.mask_logits(roi_features, labels)
        mask_scores = self.network.mask_scores(roi_features, mask_logits, labels)
        counts = [len(one.labels) for one in found]
        mask_probs = torch.split(mask_logits.float().sigmoid().cpu(), counts)
        scores_by_image = [None] * len(found) if mask_scores is None else torch.split(mask_scores.float().cpu(), counts)
        return [
            self._instances(one, probs, scores, size, original_size)
            for one, probs, scores, size, original_size in zip(
                found, mask_probs, scores_by_image, output.image_sizes, original_sizes, strict=True
            )
        ]

    def _instances(
        self,
        found: Detections,
        mask_probs: Tensor,
        mask_scores: Tensor | None,
        size: tuple[int, int],
        original_size: tuple[int, int],
    ) -> Instances:
        ratios = [torch.tensor(float(original_size[axis])) / torch.tensor(float(size[axis])) for axis in (1, 0)]
        boxes = found.boxes.cpu() * torch.stack([*ratios, *ratios])
        return Instances(
            boxes=clip_boxes_to_image(boxes, original_size),
            labels=found.labels.cpu(),
            class_scores=found.scores.cpu(),
            masks=RegionMasks(
                mask_probs, boxes, original_size,
                continuous=self.network.config.conventions.mask_paste == "continuous",
            ),
            image_size=original_size,
            class_names=self.network.class_names,
            mask_scores=mask_scores,
        )  # fmt: skip


def choose(
    proposals: Tensor,
    class_probs: Tensor,
    box_deltas: Tensor,
    image_size: tuple[int, int],
    config: RCNNConfig,
    nms: BatchedNms = batched_nms,
) -> Detections:
    """Boxes of all classes above the threshold, NMS within each class, the best of them.

    Args:
        proposals: (P, 4) xyxy, network pixels.
        class_probs: (P, num_classes + 1), background first.
        box_deltas: (P, num_classes + 1, 4).
        image_size: (h, w) of the image within the network's input.
        config: thresholds, NMS, conventions.
        nms: what suppresses where ``config.nms`` is batched.

    """
    conventions = config.conventions
    rows, labels = (class_probs[:, 1:] > config.candidate_threshold).nonzero().unbind(dim=1)
    boxes = decode_deltas(
        box_deltas[rows, labels + 1],
        proposals[rows],
        weights=BOX_WEIGHTS,
        extent_offset=conventions.extent_offset,
        limit_below=conventions.limit_delta_below,
    )
    boxes = clip_to_image(boxes, image_size, conventions.extent_offset)
    usable = is_at_least(boxes, conventions.min_detection_side, conventions.extent_offset) & boxes.isfinite().all(dim=1)
    rows, labels, boxes = rows[usable], labels[usable], boxes[usable]
    scores = class_probs[rows, labels + 1]
    if config.nms == "batched":
        kept = greedy_nms(boxes, scores, labels, config.iou_threshold, config, nms)[: config.max_detections]
        return Detections(boxes[kept], labels[kept], scores[kept])
    if config.nms == "cross_class_fast":
        table = scores.new_zeros(config.num_classes, len(scores))
        table[labels, torch.arange(len(scores), device=scores.device)] = scores
        kept, _, _ = cross_class_fast_nms(
            boxes, table, iou_threshold=config.iou_threshold, max_candidates=max(len(scores), 1),
            max_detections=config.max_detections,
        )  # fmt: skip
        return Detections(boxes[kept], labels[kept], scores[kept])
    kept_parts, score_parts = [rows[:0]], [scores[:0]]
    for label in sorted(set(labels.tolist())):
        own = (labels == label).nonzero()[:, 0]
        if config.nms == "fast":
            kept, _, own_scores = fast_nms(
                boxes[own], scores[own][None], iou_threshold=config.iou_threshold, max_candidates=len(own),
                max_detections=config.max_detections,
            )  # fmt: skip
        else:
            kept, own_scores = soft_nms(
                boxes[own], scores[own], iou_threshold=config.iou_threshold,
                method="linear" if config.nms == "soft_linear" else "gaussian", offset=conventions.extent_offset,
            )  # fmt: skip
        kept_parts.append(own[kept])
        score_parts.append(own_scores)
    kept, scores = torch.cat(kept_parts), torch.cat(score_parts)
    best = scores.sort(descending=True, stable=True).indices[: config.max_detections]
    return Detections(boxes[kept[best]], labels[kept[best]], scores[best])
