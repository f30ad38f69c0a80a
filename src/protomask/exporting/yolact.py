"""How the output of a YOLACT is read in an exported graph."""

from __future__ import annotations

from torch import Tensor

from protomask.exporting.prototypes import Reading
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import decode_boxes
from protomask.ops.masks import assemble_masks, crop_masks


def candidates_of(network: Yolact, output: YolactOutput) -> tuple[Tensor, ...]:
    """What the network says before anything is chosen: class logits, boxes, mask coefficients and prototypes."""
    boxes = decode_boxes(output.box_deltas, output.anchors, max_size_ratio=network.config.max_size_ratio)
    return output.class_logits, boxes, output.mask_coefficients, output.prototypes


def _masks(network: Yolact, prototypes: Tensor, mask_coefficients: Tensor, boxes: Tensor) -> Tensor:
    return crop_masks(assemble_masks(prototypes, mask_coefficients), boxes)


READING = Reading(candidates=candidates_of, masks=_masks, rescoring=lambda network: network.rescoring)
