"""What a YOLACT had inside while it looked at an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from protomask.detection.options import PredictOptions
from protomask.detection.prototypes import PrototypeRule
from protomask.models.inside import Inside, PrototypeParts
from protomask.models.prototype_config import rule_of
from protomask.models.prototype_inside import inside_of
from protomask.models.prototype_means import means
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
    boxes = decode_boxes(
        output.box_deltas[image].float(), output.anchors, max_size_ratio=network.config.max_size_ratio
    )  # fmt: skip
    return inside_of(
        rows=rows_of(network, output, image, kept, anchors, rule),
        kept=kept,
        numbers=anchors.cpu().numpy(),
        class_probs=output.class_logits[image].float().softmax(dim=-1).cpu().numpy(),
        boxes=boxes.cpu().numpy(),
        origins=cxcywh_to_xyxy(output.anchors).cpu().numpy(),
        rule=rule,
        anchors_per_level=network.config.anchors_per_level,
        prototypes=PrototypeParts(
            prototypes=output.prototypes[image].float().cpu().numpy(),
            coefficients=means(output.mask_coefficients[image], kept, anchors).cpu().numpy(),
        ),
    )
