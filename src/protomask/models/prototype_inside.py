"""What a prototype network had inside while it looked at an image, from what it said before NMS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.detection.prototypes import Kept, PrototypeRule
from protomask.models.inside import Candidates, Floats, Inside, PrototypeParts


def inside_of(
    *,
    rows: Any,
    kept: Kept,
    numbers: NDArray[np.int64],
    class_probs: Floats,
    boxes: Floats,
    origins: Floats,
    rule: PrototypeRule,
    anchors_per_level: Sequence[int],
    prototypes: PrototypeParts | None,
) -> Inside:
    """Put together what explanations are made of.

    Args:
        rows: what the family's ``detect`` gives.
        kept: what NMS kept.
        numbers: (N,) int64, which anchors, or points, these are.
        class_probs: (A, num_classes + 1) of all anchors, background first.
        boxes: (A, 4) xyxy of all anchors, relative to the image, not clipped.
        origins: (A, 4) likewise, the anchors themselves.
        rule: of the prediction.
        anchors_per_level: number of anchors of each level, finest first.
        prototypes: what the masks of ``kept`` are sums of; None where they are not sums.

    """
    boxes = boxes.clip(0, 1) if rule.clip_boxes else boxes
    taking_part = class_probs[:, 1:] > np.float32(rule.candidate_threshold)
    if rule.nms == "cross_class_fast":  # an anchor has only its best class
        best = np.zeros_like(taking_part)
        best[np.arange(len(best)), class_probs[:, 1:].argmax(axis=1)] = True
        taking_part &= best
    taking_part[~np.isfinite(boxes).all(axis=1)] = False
    taking_part[numbers, kept.labels] = True
    own, labels = np.nonzero(taking_part)
    place = np.full(taking_part.shape, -1, dtype=np.int64)
    place[own, labels] = np.arange(len(own))
    return Inside(
        rows=rows,
        boxes=kept.boxes,
        labels=kept.labels,
        class_scores=kept.class_scores,
        mask_scores=rows.mask_scores,
        class_probs=class_probs[numbers],
        candidates=Candidates(
            boxes=boxes[own],
            origins=origins[own],
            numbers=own,
            levels=np.searchsorted(np.cumsum(anchors_per_level), own, side="right"),
            labels=labels,
            scores=class_probs[own, labels + 1],
        ),
        kept=place[numbers, kept.labels],
        prototypes=prototypes,
    )
