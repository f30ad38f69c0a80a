"""From what the YOLACT network predicts to what was found: candidates, NMS, masks, original frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from protomask.errors import ConfigError
from protomask.models.config import NmsMode
from protomask.models.yolact.config import YolactConfig
from protomask.ops.boxes import decode_boxes
from protomask.ops.masks import assemble_masks, crop_masks
from protomask.ops.nms import batched_nms, batched_soft_nms, cross_class_fast_nms, fast_nms
from protomask.structures.instances import GridMasks, Instances

if TYPE_CHECKING:
    from protomask.models.yolact.heads import YolactOutput
    from protomask.models.yolact.mask_rescoring import MaskRescoring


class YolactPostprocess:
    """Reads the output of a `Yolact` network.

    Args:
        config: thresholds and NMS used where a call does not say otherwise.
        class_names: name of each label.
        rescoring: estimates the quality of the masks, where the network has one.

    """

    def __init__(
        self, config: YolactConfig, class_names: Sequence[str], rescoring: MaskRescoring | None = None
    ) -> None:
        self.config = config
        self.class_names = tuple(class_names)
        self.rescoring = rescoring

    @torch.no_grad()
    def __call__(
        self,
        output: YolactOutput,
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
            output: of the network, B images.
            original_sizes: (H, W) of each image before it was resized.
            score_threshold: return only instances whose class score is above this; 0 returns all.
            iou_threshold: overlap above which NMS suppresses.
            max_detections: at most so many instances per image; where it is beyond ``max_candidates``, that limit grows
                in proportion. Not given, it is the config's, except for cross-class fast NMS, which officially returns
                all that it keeps.
            nms: fast, cross_class_fast, batched, soft_linear or soft_gaussian.
            candidate_threshold: only anchors whose best class score is above this are looked at; it also holds for
                each detection where the model has ``threshold_detections``.

        Returns:
            One `Instances` per image, on the CPU, boxes clipped to the image, in the order of their class scores also
            where there are mask scores (which have no part in ``score_threshold`` either, as published).

        Raises:
            ConfigError: an option is out of range.

        """
        if not 0 <= score_threshold <= 1:
            raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {score_threshold}")
        config = self.config.for_prediction(
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            nms=nms,
            candidate_threshold=candidate_threshold,
        )
        return [
            self._read_image(output, image, size, score_threshold, config) for image, size in enumerate(original_sizes)
        ]

    def _read_image(
        self, output: YolactOutput, image: int, original_size: tuple[int, int], score_threshold: float,
        config: YolactConfig,
    ) -> Instances:  # fmt: skip
        # What scores no more than asked for has no part in what is found: it neither suppresses better boxes nor takes
        # their places.
        threshold = max(config.candidate_threshold, score_threshold)
        candidates, class_scores = self._candidates(output.class_logits[image].float(), threshold, config)
        boxes = decode_boxes(
            output.box_deltas[image, candidates].float(), output.anchors[candidates],
            max_size_ratio=config.max_size_ratio,
        )  # fmt: skip
        if config.clip_boxes:
            boxes = boxes.clamp(0, 1)
        # A network that diverged can ask for sides beyond what a float holds.
        finite = boxes.isfinite().all(dim=1)
        candidates, boxes, class_scores = candidates[finite], boxes[finite], class_scores[finite]
        kept, labels, scores = select(boxes, class_scores.T.contiguous(), config, score_threshold)
        if score_threshold > 0:
            above = scores > score_threshold
            kept, labels, scores = kept[above], labels[above], scores[above]
        boxes = boxes[kept]

        mask_coefficients = output.mask_coefficients[image, candidates[kept]].float()
        prototypes = output.prototypes[image].float()
        mask_scores = None
        # Sums over prototypes need float32 also where the network ran in less.
        with torch.autocast(prototypes.device.type, enabled=False):
            if self.rescoring is None and prototypes.is_cpu:
                masks = GridMasks.assemble(prototypes, mask_coefficients, boxes, original_size)
            else:
                # The rescoring network looks at whole grids, and a graphics card makes them in no time.
                mask_probs = crop_masks(assemble_masks(prototypes, mask_coefficients), boxes)
                masks = GridMasks(mask_probs, original_size)
        if self.rescoring is not None:
            mask_scores = self.rescoring(mask_probs, labels).float().cpu()
        height, width = original_size
        pixel_boxes = clip_boxes_to_image(boxes * boxes.new_tensor([width, height, width, height]), original_size)
        return Instances(
            boxes=pixel_boxes.cpu(),
            labels=labels.cpu(),
            class_scores=scores.cpu(),
            masks=masks,
            image_size=original_size,
            class_names=self.class_names,
            mask_scores=mask_scores,
        )

    def _candidates(self, class_logits: Tensor, threshold: float, config: YolactConfig) -> tuple[Tensor, Tensor]:
        """Anchors whose best class scores above the threshold: (K,) indices, and their (K, num_classes) scores."""
        # A softmax is at most what it would be of this class and the background alone, so most anchors need none.
        lead = class_logits[:, 1:].amax(dim=-1) - class_logits[:, 0]
        possible = (lead.sigmoid() > threshold - 1e-4).nonzero()[:, 0]
        class_scores = class_logits[possible].softmax(dim=-1)[:, 1:]
        best_scores = class_scores.amax(dim=-1)
        eligible = best_scores > threshold
        if config.candidates_per_level is not None:
            spread = class_logits.new_zeros(len(class_logits)).index_copy_(0, possible, best_scores)
            best = best_of_levels(spread, config.anchors_per_level, config.candidates_per_level)
            eligible &= best[possible]
        return possible[eligible], class_scores[eligible]


def best_of_levels(scores: Tensor, anchors_per_level: Sequence[int], limit: int) -> Tensor:
    """Mark the anchors of the best scores, so many on each pyramid level.

    Args:
        scores: (A,), the best class score of each anchor.
        anchors_per_level: how many anchors each level has, in their order; they add up to A.
        limit: on each level at most so many are marked.

    Returns:
        (A,) bool.

    Raises:
        ConfigError: the levels have another number of anchors than there are.

    """
    if sum(anchors_per_level) != len(scores):
        wanted = f"{sum(anchors_per_level)} anchors ({', '.join(map(str, anchors_per_level))} on the levels)"
        raise ConfigError(f"candidates_per_level: expected {wanted}, got {len(scores)}")
    best = torch.zeros_like(scores, dtype=torch.bool)
    end = 0
    for count in anchors_per_level:
        start, end = end, end + count
        best[start + scores[start:end].topk(min(limit, count), sorted=False).indices] = True
    return best


def select(
    boxes: Tensor, class_scores: Tensor, config: YolactConfig, score_threshold: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression in the mode of the config.

    Args:
        boxes: (N, 4) xyxy relative to the image.
        class_scores: (num_classes, N).
        config: thresholds.
        score_threshold: what scores no more may be missing from the result; 0 leaves nothing out.

    Returns:
        kept: (M,) int64 indices into N, best first. Fast and soft NMS may return an anchor with several labels.
        labels: (M,) int64.
        scores: (M,) float32.

    """
    threshold = max(config.candidate_threshold, score_threshold)
    if config.nms == "fast":
        return fast_nms(
            boxes, class_scores, iou_threshold=config.iou_threshold,
            max_candidates=config.max_candidates, max_detections=config.max_detections,
            score_threshold=threshold if config.threshold_detections else score_threshold or None,
            empty_suppress=config.empty_boxes_suppress,
        )  # fmt: skip
    if config.nms == "cross_class_fast":
        kept, labels, scores = cross_class_fast_nms(
            boxes, class_scores, iou_threshold=config.iou_threshold, max_candidates=config.max_candidates,
            empty_suppress=config.empty_boxes_suppress,
        )  # fmt: skip
        top = slice(config.max_detections)
        return kept[top], labels[top], scores[top]
    # The greedy modes measure pixels: the official one counts a box from 3 to 5 as three wide.
    pixel_boxes = boxes * config.image_size
    if config.nms == "batched":
        return batched_nms(
            pixel_boxes, class_scores, iou_threshold=config.iou_threshold, score_threshold=threshold,
            max_detections=config.max_detections, legacy_offset=1.0, inclusive=True,
        )  # fmt: skip
    return batched_soft_nms(
        pixel_boxes, class_scores, method="linear" if config.nms == "soft_linear" else "gaussian",
        iou_threshold=config.iou_threshold, score_threshold=threshold, max_detections=config.max_detections,
    )  # fmt: skip
