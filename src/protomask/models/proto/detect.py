"""From what the network predicts to what is kept of it; `protomask.detection.prototypes` does the choosing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protomask.detection import prototypes
from protomask.detection.options import PredictOptions
from protomask.detection.prototypes import Kept, PrototypeMasks, PrototypeRows, PrototypeRule
from protomask.models.proto.boxes import boxes_of, logits_of
from protomask.models.proto.masks import grid_positions, mask_logits
from protomask.models.prototype_config import rule_of
from protomask.models.prototype_means import means, numbered
from protomask.ops.masks import crop_masks
from protomask.structures.instances import Instances

if TYPE_CHECKING:
    from protomask.models.proto.heads import ProtoOutput
    from protomask.models.proto.model import ProtoNetwork


@torch.no_grad()
def detect(network: ProtoNetwork, output: ProtoOutput, options: PredictOptions) -> list[PrototypeRows]:
    """Choose among the predictions for B images.

    Args:
        network: in evaluation mode.
        output: of the network.
        options: thresholds and NMS; the config's where they say nothing. What scores no more than their
            ``score_threshold`` takes no part.

    Returns:
        What is kept in each image, on the CPU, in the order of class scores.

    """
    rule = rule_of(network.config).settle(options)
    logits, boxes = logits_of(network.config, output), boxes_of(network.config, output)
    return [
        rows_of(
            network,
            output,
            image,
            *choose(
                network,
                logits[image],
                boxes[image],
                (output.prototypes[image], output.mask_parameters[image]),
                rule,
                options,
            ),
        )
        for image in range(len(logits))
    ]


def paint(
    network: ProtoNetwork, rows: PrototypeRows, image_size: tuple[int, int], options: PredictOptions
) -> Instances:
    """What was kept of one image of an original size (H, W)."""
    shape = rule_of(network.config).settle(options).shape
    return prototypes.paint(rows, image_size, network.class_names, shape)


def choose(
    network: ProtoNetwork,
    logits: Tensor,
    boxes: Tensor,
    masks: tuple[Tensor, Tensor],
    rule: PrototypeRule,
    options: PredictOptions,
) -> tuple[Kept, Tensor]:
    """What NMS keeps of one image, and (N,) int64: the points that these are.

    Args:
        network: whose output it is.
        logits: (A, C + 1).
        boxes: (A, 4).
        masks: (h, w, k) prototypes and (A, m) mask parameters.
        rule: thresholds and NMS.
        options: options of the prediction.

    """
    threshold = rule.least_candidate(options.score_threshold)
    lead = logits[:, 1:].amax(dim=-1) - logits[:, 0]
    possible = (lead.sigmoid() > threshold - 1e-4).nonzero()[:, 0]  # only these leave the device
    by_masks = None
    if rule.overlap != "box_iou":
        grid, parameters = masks[0].float(), masks[1][possible].float()
        by_masks = PrototypeMasks(grid.cpu().numpy(), parameters.cpu().numpy())
    kept = prototypes.detect(
        logits[possible].cpu().numpy(),
        boxes[possible].cpu().numpy(),
        rule,
        score_threshold=options.score_threshold,
        anchors=possible.cpu().numpy(),
        labels=options.labels(network.class_names),
        masks=by_masks,
    )
    return numbered(kept, possible)


def rows_of(network: ProtoNetwork, output: ProtoOutput, image: int, kept: Kept, points: Tensor) -> PrototypeRows:
    """What was kept of one image with its masks; ``kept`` and ``points`` are those of `choose`."""
    parameters = means(output.mask_parameters[image], kept, points)
    grid = output.prototypes[image].float()
    if network.config.mask_head == "linear":
        made = PrototypeMasks(grid.cpu().numpy(), parameters.cpu().numpy())
        return PrototypeRows(kept.boxes, kept.labels, kept.class_scores, made)
    boxes = torch.from_numpy(kept.boxes).to(grid.device)
    probs = mask_probs(network, parameters, grid, boxes)
    return PrototypeRows(kept.boxes, kept.labels, kept.class_scores, probs.cpu().numpy())


def mask_probs(network: ProtoNetwork, parameters: Tensor, grid: Tensor, boxes: Tensor) -> Tensor:
    """(N, h, w) probabilities on the grid of the (h, w, k) prototypes, zero outside the (N, 4) relative boxes."""
    size = (grid.shape[0], grid.shape[1])
    # Sums over prototypes need float32 also where the network ran in less.
    with torch.autocast(grid.device.type, enabled=False):
        positions = grid_positions(size, grid)
        logits = mask_logits(network.config, parameters, grid.flatten(0, 1), positions, boxes)
        return crop_masks(logits.view(-1, *size).sigmoid(), boxes)
