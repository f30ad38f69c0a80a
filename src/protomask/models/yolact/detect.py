"""From what the YOLACT network predicts to what is kept of it; `protomask.detection.prototypes` does the choosing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protomask.detection import prototypes
from protomask.detection.mask_shape import MaskShape
from protomask.detection.options import PredictOptions
from protomask.detection.prototypes import Kept, PrototypeMasks, PrototypeRows, PrototypeRule
from protomask.models.prototype_config import rule_of
from protomask.models.prototype_means import means, numbered
from protomask.ops.boxes import decode_boxes
from protomask.ops.masks import assemble_masks, crop_masks
from protomask.structures.instances import Instances

if TYPE_CHECKING:
    from protomask.models.yolact.heads import YolactOutput
    from protomask.models.yolact.model import Yolact


@torch.no_grad()
def detect(network: Yolact, output: YolactOutput, options: PredictOptions) -> list[PrototypeRows]:
    """Choose among the predictions for B images.

    Args:
        network: in evaluation mode; its mask rescoring is run here, on the chosen masks only.
        output: of the network.
        options: thresholds and NMS; the config's where they say nothing. What scores no more than their
            ``score_threshold`` takes no part.

    Returns:
        What is kept in each image, on the CPU, in the order of class scores.

    """
    rule = rule_of(network.config).settle(options)
    return [
        rows_of(network, output, image, *choose(network, output, image, rule, options), rule)
        for image in range(len(output.class_logits))
    ]


def paint(network: Yolact, rows: PrototypeRows, image_size: tuple[int, int], options: PredictOptions) -> Instances:
    """What was kept of one image of an original size (H, W)."""
    shape = rule_of(network.config).settle(options).shape
    return prototypes.paint(rows, image_size, network.class_names, shape)


def choose(
    network: Yolact, output: YolactOutput, image: int, rule: PrototypeRule, options: PredictOptions
) -> tuple[Kept, Tensor]:
    """What NMS keeps of one image, and (N,) int64: the anchors that these are."""
    logits = output.class_logits[image].float()
    possible = _possible(logits, rule.least_candidate(options.score_threshold))
    boxes = decode_boxes(
        output.box_deltas[image, possible].float(),
        output.anchors[possible],
        max_size_ratio=network.config.max_size_ratio,
    )
    masks = None
    if rule.overlap != "box_iou":
        coefficients = output.mask_coefficients[image, possible].float()
        masks = PrototypeMasks(output.prototypes[image].float().cpu().numpy(), coefficients.cpu().numpy())
    kept = prototypes.detect(
        logits[possible].cpu().numpy(),
        boxes.cpu().numpy(),
        rule,
        score_threshold=options.score_threshold,
        anchors=possible.cpu().numpy(),
        labels=options.labels(network.class_names),
        masks=masks,
    )
    return numbered(kept, possible)


def rows_of(
    network: Yolact, output: YolactOutput, image: int, kept: Kept, anchors: Tensor, rule: PrototypeRule
) -> PrototypeRows:
    """What was kept of one image with its masks; ``kept`` and ``anchors`` are those of `choose` with this rule."""
    coefficients = means(output.mask_coefficients[image], kept, anchors)
    grid = output.prototypes[image].float()
    masks = PrototypeMasks(grid.cpu().numpy(), coefficients.cpu().numpy())
    if network.rescoring is None:
        return PrototypeRows(kept.boxes, kept.labels, kept.class_scores, masks)
    # The rescoring network looks at whole grids. Sums over prototypes need float32 also where the network ran in less.
    with torch.autocast(grid.device.type, enabled=False):
        mask_probs = crop_masks(assemble_masks(grid, coefficients), torch.from_numpy(kept.boxes).to(grid.device))
    mask_scores = network.rescoring(mask_probs, torch.from_numpy(kept.labels).to(grid.device))
    return PrototypeRows(
        kept.boxes,
        kept.labels,
        kept.class_scores,
        # Masks of another shape are made of prototypes again: these are cropped.
        mask_probs.cpu().numpy() if rule.shape == MaskShape() else masks,
        mask_scores.float().cpu().numpy(),
    )


def _possible(class_logits: Tensor, threshold: float) -> Tensor:
    """(K,) rows of (A, C + 1) logits whose best class may score above a threshold: only these leave the device."""
    # A softmax is at most what it would be of this class and the background alone, so most anchors need none.
    lead = class_logits[:, 1:].amax(dim=-1) - class_logits[:, 0]
    return (lead.sigmoid() > threshold - 1e-4).nonzero()[:, 0]
