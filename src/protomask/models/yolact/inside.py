"""What a YOLACT had inside while it looked at an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from protomask.detection.options import PredictOptions
from protomask.detection.prototypes import PrototypeRule
from protomask.models.inside import Candidates, Inside, PrototypeParts
from protomask.models.prototype_config import rule_of
from protomask.models.yolact.detect import choose, rows_of
from protomask.ops.boxes import cxcywh_to_xyxy, decode_boxes

if TYPE_CHECKING:
    from protomask.models.yolact.heads import YolactOutput
    from protomask.models.yolact.model import Yolact


@torch.no_grad()
def look_inside(
    network: Yolact, output: YolactOutput, original_sizes: Sequence[tuple[int, int]], options: PredictOptions
) -> list[Inside]:
    """Say of each of B images what competed, what was kept and what its masks are made of; arguments as of `detect`."""
    rule = rule_of(network.config).settle(options)
    return [_look_inside(network, output, image, rule, options) for image in range(len(output.class_logits))]


def _look_inside(
    network: Yolact, output: YolactOutput, image: int, rule: PrototypeRule, options: PredictOptions
) -> Inside:
    kept, anchors = choose(network, output, image, rule, options)
    rows = rows_of(network, output, image, kept, anchors)
    numbers = anchors.cpu().numpy()
    probs = output.class_logits[image].float().softmax(dim=-1).cpu().numpy()
    boxes = decode_boxes(
        output.box_deltas[image].float(), output.anchors, max_size_ratio=network.config.max_size_ratio
    ).cpu().numpy()  # fmt: skip
    boxes = boxes.clip(0, 1) if rule.clip_boxes else boxes
    taking_part = probs[:, 1:] > np.float32(rule.candidate_threshold)
    if rule.nms == "cross_class_fast":  # an anchor has only its best class
        best = np.zeros_like(taking_part)
        best[np.arange(len(best)), probs[:, 1:].argmax(axis=1)] = True
        taking_part &= best
    taking_part &= np.isfinite(boxes).all(axis=1)[:, None]
    taking_part[numbers, kept.labels] = True
    own, labels = np.nonzero(taking_part)
    ends = np.cumsum(network.config.anchors_per_level)
    candidates = Candidates(
        boxes=boxes[own],
        origins=cxcywh_to_xyxy(output.anchors).cpu().numpy()[own],
        numbers=own,
        levels=np.searchsorted(ends, own, side="right"),
        labels=labels,
        scores=probs[own, labels + 1],
    )
    place = np.full(taking_part.shape, -1, dtype=np.int64)
    place[own, labels] = np.arange(len(own))
    return Inside(
        rows=rows,
        boxes=kept.boxes,
        labels=kept.labels,
        class_scores=kept.class_scores,
        mask_scores=rows.mask_scores,
        class_probs=probs[numbers],
        candidates=candidates,
        kept=place[numbers, kept.labels],
        prototypes=PrototypeParts(
            prototypes=output.prototypes[image].float().cpu().numpy(),
            coefficients=output.mask_coefficients[image, anchors].float().cpu().numpy(),
        ),
    )
