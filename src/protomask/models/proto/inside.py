"""What a modern prototype network had inside while it looked at an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from protomask.detection.options import PredictOptions
from protomask.models.inside import Inside, PrototypeParts
from protomask.models.proto.boxes import boxes_of, logits_of
from protomask.models.proto.detect import choose, rows_of
from protomask.models.prototype_config import rule_of
from protomask.models.prototype_inside import inside_of
from protomask.models.prototype_means import means
from protomask.ops.boxes import cxcywh_to_xyxy

if TYPE_CHECKING:
    from protomask.models.proto.heads import ProtoOutput
    from protomask.models.proto.model import ProtoNetwork


@torch.no_grad()
def look_inside(
    network: ProtoNetwork, output: ProtoOutput, original_sizes: Sequence[tuple[int, int]], options: PredictOptions
) -> list[Inside]:
    """Say of each of B images what competed, what was kept and what its masks are made of; arguments as of `detect`.

    Masks of dynamic kernels are not sums of prototypes, so these show none.
    """
    config = network.config
    rule = rule_of(config).settle(options)
    logits, boxes = logits_of(config, output), boxes_of(config, output)
    found = []
    for image in range(len(logits)):
        prototypes, parameters = output.prototypes[image], output.mask_parameters[image]
        kept, points = choose(network, logits[image], boxes[image], (prototypes, parameters), rule, options)
        parts = PrototypeParts(
            prototypes=prototypes.float().cpu().numpy(), coefficients=means(parameters, kept, points).cpu().numpy()
        )
        found.append(
            inside_of(
                rows=rows_of(network, output, image, kept, points),
                kept=kept,
                numbers=points.cpu().numpy(),
                class_probs=logits[image].softmax(dim=-1).cpu().numpy(),
                boxes=boxes[image].cpu().numpy(),
                origins=cxcywh_to_xyxy(output.references).cpu().numpy(),
                rule=rule,
                anchors_per_level=config.anchors_per_level,
                prototypes=parts if config.mask_head == "linear" else None,
            )
        )
    return found
