"""How the head's numbers stand for boxes, and its logits for scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protomask.models.proto.config import ProtoConfig
from protomask.ops.boxes import decode_boxes, decode_distances, encode_boxes, encode_distances

if TYPE_CHECKING:
    from protomask.models.proto.heads import ProtoOutput

_LEAST = 1e-6
"""Smallest score whose logarithm is taken."""


def encode(config: ProtoConfig, boxes: Tensor, references: Tensor) -> Tensor:
    """(N, 4) numbers that stand for (N, 4) xyxy boxes at (N, 4) references."""
    return encode_distances(boxes, references) if config.head == "points" else encode_boxes(boxes, references)


def boxes_of(config: ProtoConfig, output: ProtoOutput) -> Tensor:
    """(B, A, 4) float32 xyxy, relative to the image, not clipped."""
    values = output.box_values.float()
    if config.head == "points":
        return decode_distances(values, output.references)
    return decode_boxes(values, output.references)


def logits_of(config: ProtoConfig, output: ProtoOutput) -> Tensor:
    """(B, A, C + 1) float32 logits, background first, whose softmax are the scores.

    Where the qualities of a point for several classes add up to more than 1, they are divided by their sum: one mask
    cannot be the mask of two objects.
    """
    logits = output.class_logits if output.one_to_one_logits is None else output.one_to_one_logits
    logits = logits.float()
    if config.score == "class":
        return logits
    if output.quality_logits is None:
        scores = logits.sigmoid()
    else:
        scores = logits.softmax(dim=-1)[..., 1:] * output.quality_logits.float().sigmoid()
    nothing = (1 - scores.sum(dim=-1, keepdim=True)).clamp(min=_LEAST)
    return torch.cat((nothing, scores.clamp(min=_LEAST)), dim=-1).log()
