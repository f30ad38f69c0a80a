"""What a Mask R-CNN had inside while it looked at an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.detection.options import PredictOptions
from protomask.detection.regions import RegionRows
from protomask.models.inside import Candidates, Floats, Inside, RegionParts
from protomask.models.rcnn.detect import BOX_WEIGHTS, MASK_ROI_SIZE, detect, settle
from protomask.models.rcnn.proposals import select_proposals
from protomask.ops.boxes import clip_to_image, decode_deltas

if TYPE_CHECKING:
    from protomask.models.rcnn.model import MaskRCNN, RCNNOutput


@torch.no_grad()
def look_inside(
    network: MaskRCNN, output: RCNNOutput, original_sizes: Sequence[tuple[int, int]], options: PredictOptions
) -> list[Inside]:
    """Say of each of B images what competed, what was kept and what its masks are made of; arguments as of `detect`."""
    rows = detect(network, output, options)
    boxes = [torch.from_numpy(one.boxes).to(output.features[0].device) for one in rows]
    pooled = network.roi_features(output.features, boxes, MASK_ROI_SIZE).float().mean(dim=1)
    maps = torch.split(pooled.cpu(), [len(one) for one in boxes])
    return [
        _look_inside(network, output, image, one, features.numpy(), options)
        for image, (one, features) in enumerate(zip(rows, maps, strict=True))
    ]


def _look_inside(
    network: MaskRCNN, output: RCNNOutput, image: int, rows: RegionRows, features: Floats, options: PredictOptions
) -> Inside:
    size = output.image_sizes[image]
    probs = output.class_logits[image].float().softmax(dim=-1)
    candidates = _candidates(network, output, image, probs, options)
    relative = (rows.boxes / _extent(size)).astype(np.float32)
    kept = np.array(
        [_nearest(candidates, box, label) for box, label in zip(relative, rows.labels, strict=True)], dtype=np.int64
    )
    rated = network.mask_iou_head is not None
    return Inside(
        rows=rows,
        boxes=relative,
        labels=rows.labels,
        class_scores=rows.class_scores,
        mask_scores=rows.mask_scores,
        class_probs=probs.cpu().numpy()[candidates.numbers[kept]],
        candidates=candidates,
        kept=kept,
        regions=RegionParts(
            proposals=(output.proposals[image].float().cpu().numpy() / _extent(size)).astype(np.float32),
            objectness=_objectness(network, output, image),
            features=features,
            mask_probs=rows.mask_probs,
            mask_iou_input=_halved(rows.mask_probs) if rated else None,
        ),
    )


def _candidates(
    network: MaskRCNN, output: RCNNOutput, image: int, probs: Tensor, options: PredictOptions
) -> Candidates:
    conventions, size = network.config.conventions, output.image_sizes[image]
    proposals = output.proposals[image].float()
    likely = probs[:, 1:] > settle(network.config, options).candidate_threshold
    numbers, labels = likely.nonzero().unbind(dim=1)
    boxes = decode_deltas(
        output.box_deltas[image].float()[numbers, labels + 1],
        proposals[numbers],
        weights=BOX_WEIGHTS,
        extent_offset=conventions.extent_offset,
        limit_below=conventions.limit_delta_below,
    )
    boxes = clip_to_image(boxes, size, conventions.extent_offset)
    usable = boxes.isfinite().all(dim=1)
    numbers, labels, boxes = numbers[usable], labels[usable], boxes[usable]
    return Candidates(
        boxes=(boxes.cpu().numpy() / _extent(size)).astype(np.float32),
        origins=(proposals[numbers].cpu().numpy() / _extent(size)).astype(np.float32),
        numbers=numbers.cpu().numpy(),
        levels=network.roi_levels(proposals[numbers]).cpu().numpy(),
        labels=labels.cpu().numpy(),
        scores=probs[numbers, labels + 1].cpu().numpy(),
    )


def _nearest(candidates: Candidates, box: Floats, label: int) -> int:
    """The candidate of this class with this box: NMS does not say which it kept."""
    distance = np.abs(candidates.boxes - box).sum(axis=1)
    return int(np.where(candidates.labels == label, distance, np.inf).argmin())


def _objectness(network: MaskRCNN, output: RCNNOutput, image: int) -> Floats:
    """(P,) scores of the proposals, which the network's output does not hold."""
    _, scores = select_proposals(
        [level[image].float() for level in output.objectness_logits],
        [level[image].float() for level in output.rpn_box_deltas],
        output.anchors,
        output.image_sizes[image],
        network.config,
        training=False,
    )
    found: Floats = scores.cpu().numpy()
    return found


def _halved(mask_probs: Floats) -> Floats:
    """(N, m/2, m/2) as `MaskIoUHead` pools them."""
    pooled: Floats = F.max_pool2d(torch.from_numpy(mask_probs)[:, None], 2, 2)[:, 0].numpy()
    return pooled


def _extent(size: tuple[int, int]) -> Floats:
    height, width = size
    return np.array([width, height, width, height], dtype=np.float32)
