"""What a modern prototype network can learn from the predictions of another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.errors import ConfigError
from protomask.models.proto.boxes import boxes_of, logits_of
from protomask.models.proto.config import ProtoConfig
from protomask.models.proto.masks import mask_logits
from protomask.models.proto.truth import places_about, sample_grid
from protomask.ops.boxes import generalized_iou
from protomask.ops.losses import shared_count

if TYPE_CHECKING:
    from protomask.models.proto.heads import ProtoOutput
    from protomask.models.proto.model import ProtoNetwork

_POINTS = 32
"""Points of each image whose boxes and masks are taught: those that the teacher scores highest."""
_LEAST_SCORE = 0.05
"""Score of the teacher below which nothing is taught as an object."""

Teaching = Callable[["ProtoOutput", "ProtoOutput"], dict[str, Tensor]]


def teaching(student: ProtoNetwork, teacher: ProtoNetwork) -> Teaching:
    """The terms by which a network learns from another one's output, point by point.

    Scores are soft targets of a cross entropy that counts most where both differ most. Where
    the teacher is sure, the student also learns its box, by GIoU, and its soft mask, at places in and about that box.
    That needs no truth: it holds as well for what nobody annotated, and in regions to ignore.

    Args:
        student: the network that learns.
        teacher: the trained one.

    Returns:
        A function of the outputs of both for the same images, to loss_teacher_class, loss_teacher_box and
        loss_teacher_mask.

    Raises:
        ConfigError: the points, scores or classes of the two are not the same.

    """
    own, other = student.config, teacher.config
    for name in ("head", "score", "strides", "image_size", "anchors_per_level"):
        if getattr(own, name) != getattr(other, name):
            raise ConfigError(
                f"teacher: expected a network with {name} {getattr(own, name)}, as the one that learns, "
                f"got {getattr(other, name)}"
            )
    if student.class_names != teacher.class_names:
        raise ConfigError(
            f"teacher: expected the classes {', '.join(student.class_names)}, got {', '.join(teacher.class_names)}"
        )

    def terms(output: ProtoOutput, taught: ProtoOutput) -> dict[str, Tensor]:
        with torch.autocast(output.class_logits.device.type, enabled=False):
            return _terms(own, other, _in_float32(output), _in_float32(taught))

    return terms


def _terms(own: ProtoConfig, other: ProtoConfig, output: ProtoOutput, taught: ProtoOutput) -> dict[str, Tensor]:
    logs = logits_of(own, output._replace(one_to_one_logits=None)).log_softmax(dim=-1)
    wanted = logits_of(other, taught._replace(one_to_one_logits=None)).softmax(dim=-1)
    best, points = wanted[..., 1:].amax(dim=-1).topk(min(_POINTS, wanted.shape[1]), dim=-1)
    weights = best * (best > _LEAST_SCORE)
    total = shared_count(weights.sum())
    boxes, taught_boxes = _take(boxes_of(own, output), points), _take(boxes_of(other, taught), points)
    places = places_about(taught_boxes, own.mask_points, (output.prototypes.shape[1], output.prototypes.shape[2]))
    masks = _masks(own, output, points, places, boxes.detach())
    taught_masks = _masks(other, taught, points, places, taught_boxes).sigmoid()
    loss_mask = F.binary_cross_entropy_with_logits(masks, taught_masks, reduction="none").mean(dim=-1)
    loss_box = 1 - generalized_iou(boxes.flatten(0, 1), taught_boxes.flatten(0, 1)).view_as(weights)
    return {
        "loss_teacher_class": own.loss_weight_class * _class(logs, wanted),
        "loss_teacher_box": own.loss_weight_box * (loss_box * weights).sum() / total,
        "loss_teacher_mask": own.loss_weight_mask * (loss_mask * weights).sum() / total,
    }


def _class(logs: Tensor, wanted: Tensor) -> Tensor:
    """Class loss of (B, A, C + 1) logarithms of scores and the teacher's scores, background first."""
    distance = ((wanted - logs.detach().exp()) ** 2).sum(dim=-1) / 2
    scores = wanted[..., 1:]
    total = -((wanted * logs).sum(dim=-1) * distance).sum()
    return total / shared_count((scores * (scores > _LEAST_SCORE)).sum())


def _masks(config: ProtoConfig, output: ProtoOutput, points: Tensor, places: Tensor, boxes: Tensor) -> Tensor:
    """(B, K, P) mask logits of (B, K) points, each at (B, K, P, 2) places of its own."""
    sampled = sample_grid(output.prototypes, places)
    parameters = _take(output.mask_parameters, points)
    return mask_logits(config, parameters[:, :, None], sampled, places, boxes[:, :, None])[:, :, 0]


def _take(values: Tensor, points: Tensor) -> Tensor:
    """(B, A, n) and (B, K) to (B, K, n)."""
    return values.gather(1, points[..., None].expand(-1, -1, values.shape[-1]))


def _in_float32(output: ProtoOutput) -> ProtoOutput:
    return output._replace(**{name: one.float() for name, one in output._asdict().items() if one is not None})
