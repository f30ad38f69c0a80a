"""From what a Mask R-CNN predicts to what is kept of it: boxes by class, NMS, masks over the boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from protomask.detection import regions
from protomask.detection.nms import cross_class_fast_nms, fast_nms
from protomask.detection.options import PredictOptions
from protomask.detection.regions import RegionRows
from protomask.detection.soft_nms import soft_nms
from protomask.errors import ConfigError
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.proposals import BatchedNms, greedy_nms
from protomask.ops.boxes import clip_to_image, decode_deltas, is_at_least
from protomask.structures.instances import Instances

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


def settle(config: RCNNConfig, options: PredictOptions) -> RCNNConfig:
    """The config with the thresholds that the options of a prediction amount to.

    Raises:
        ConfigError: an option that asks for prototypes.

    """
    regions.settle_crop(options, config.name)
    return config.override_given(
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        nms=options.nms,
        candidate_threshold=options.candidate_threshold,
    )


def paint(network: MaskRCNN, rows: RegionRows, image_size: tuple[int, int], options: PredictOptions) -> Instances:
    """What was kept of one image of an original size (H, W)."""
    return regions.paint(
        rows,
        image_size,
        network.class_names,
        paste=network.config.conventions.mask_paste,
        crop=regions.settle_crop(options, network.config.name),
    )


@torch.no_grad()
def detect(network: MaskRCNN, output: RCNNOutput, options: PredictOptions) -> list[RegionRows]:
    """Choose among the predictions for B images; the mask heads run here, on the chosen boxes only.

    Args:
        network: in evaluation mode.
        output: of the network.
        options: thresholds and NMS; the config's where they say nothing. What scores no more than their
            ``score_threshold`` suppresses nothing.

    Returns:
        What is kept in each image, on the CPU, in the order of class scores.

    Raises:
        ConfigError: the output is that of a network in training mode.

    """
    if not output.class_logits:
        raise ConfigError("output: expected that of a network in evaluation mode, got one in training mode")
    config = settle(network.config, options)
    threshold = options.score_threshold
    config = config.override(candidate_threshold=max(config.candidate_threshold, threshold))
    labels = options.labels(network.class_names)
    found = []
    for proposals, logits, deltas, size in zip(
        output.proposals, output.class_logits, output.box_deltas, output.image_sizes, strict=True
    ):
        detections = choose(proposals, logits.float().softmax(dim=-1), deltas.float(), size, config, wanted=labels)
        above = detections.scores > threshold if threshold > 0 else slice(None)
        found.append(Detections(*(part[above] for part in detections)))

    # All images of the batch together, each with its own masks: their order is that of the boxes.
    all_labels = torch.cat([one.labels for one in found])
    roi_features = network.roi_features(output.features, [one.boxes for one in found], MASK_ROI_SIZE)
    mask_logits = network.mask_logits(roi_features, all_labels)
    mask_scores = network.mask_scores(roi_features, mask_logits, all_labels)
    counts = [len(one.labels) for one in found]
    mask_probs = torch.split(mask_logits.float().sigmoid().cpu(), counts)
    scores_by_image = [None] * len(found) if mask_scores is None else torch.split(mask_scores.float().cpu(), counts)
    return [
        RegionRows(
            boxes=one.boxes.float().cpu().numpy(),
            labels=one.labels.cpu().numpy(),
            class_scores=one.scores.float().cpu().numpy(),
            mask_probs=probs.numpy(),
            mask_scores=None if scores is None else scores.numpy(),
            input_size=size,
        )
        for one, probs, scores, size in zip(found, mask_probs, scores_by_image, output.image_sizes, strict=True)
    ]


def choose(
    proposals: Tensor,
    class_probs: Tensor,
    box_deltas: Tensor,
    image_size: tuple[int, int],
    config: RCNNConfig,
    nms: BatchedNms = batched_nms,
    *,
    wanted: NDArray[np.int64] | None = None,
) -> Detections:
    """Boxes of all classes above the threshold, NMS within each class, the best of them.

    Args:
        proposals: (P, 4) xyxy, network pixels.
        class_probs: (P, num_classes + 1), background first.
        box_deltas: (P, num_classes + 1, 4).
        image_size: (h, w) of the image within the network's input.
        config: thresholds, NMS, conventions.
        nms: what suppresses where ``config.nms`` is batched.
        wanted: (L,) the classes that are wanted, None for all; the others count towards no limit of detections.

    """
    conventions = config.conventions
    likely = class_probs[:, 1:] > config.candidate_threshold
    if wanted is not None and config.nms != "cross_class_fast":  # elsewhere classes do not meet
        chosen = torch.zeros_like(likely[0])
        chosen[torch.from_numpy(wanted)] = True
        likely = likely & chosen
    rows, labels = likely.nonzero().unbind(dim=1)
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
    return _choose_by_other_nms(boxes, labels, scores, config, wanted)


def _choose_by_other_nms(
    boxes: Tensor, labels: Tensor, scores: Tensor, config: RCNNConfig, wanted: NDArray[np.int64] | None
) -> Detections:
    """The other kinds of NMS are computed on the CPU; boxes (N, 4), labels and scores (N,)."""
    kept, kept_scores = _suppress(boxes.cpu().numpy(), labels.cpu().numpy(), scores.cpu().numpy(), config, wanted)
    rows = torch.from_numpy(kept).to(boxes.device)
    return Detections(boxes[rows], labels[rows], torch.from_numpy(kept_scores).to(scores))


def _suppress(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    config: RCNNConfig,
    wanted: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows that remain and their scores, best first."""
    if config.nms == "cross_class_fast":
        table = np.zeros((config.num_classes, len(scores)), dtype=np.float32)
        table[labels, np.arange(len(scores))] = scores
        kept, _, kept_scores = cross_class_fast_nms(
            boxes, table, iou_threshold=config.iou_threshold, max_candidates=max(len(scores), 1)
        )
        if wanted is not None:
            chosen = np.isin(labels[kept], wanted)
            kept, kept_scores = kept[chosen], kept_scores[chosen]
        return kept[: config.max_detections], kept_scores[: config.max_detections]
    kept_parts, score_parts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label)
        if config.nms == "fast":
            kept, _, own_scores = fast_nms(
                boxes[own], scores[own][None], iou_threshold=config.iou_threshold, max_candidates=len(own),
                max_detections=config.max_detections,
            )  # fmt: skip
        else:
            kept, own_scores = soft_nms(
                boxes[own], scores[own], iou_threshold=config.iou_threshold,
                method="linear" if config.nms == "soft_linear" else "gaussian",
                offset=config.conventions.extent_offset,
            )  # fmt: skip
        kept_parts.append(own[kept])
        score_parts.append(own_scores)
    rows, row_scores = np.concatenate(kept_parts), np.concatenate(score_parts)
    best = np.argsort(-row_scores, kind="stable")[: config.max_detections]
    return rows[best], row_scores[best]
