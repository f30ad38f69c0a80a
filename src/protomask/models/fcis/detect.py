"""From what an FCIS predicts to what is kept of it; NMS and the vote on masks are `protomask.detection.voting`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from protomask.detection import voting
from protomask.detection.options import PROTOTYPE_OPTIONS, PredictOptions
from protomask.detection.voting import VotingRows, VotingRule
from protomask.errors import ConfigError
from protomask.images.resize import short_side_scale
from protomask.models.fcis.config import FCISConfig
from protomask.structures.instances import Instances

if TYPE_CHECKING:
    from protomask.models.fcis.model import FCIS, FCISOutput


def settle(config: FCISConfig, options: PredictOptions) -> FCISConfig:
    """The config with the thresholds that the options of a prediction amount to.

    Raises:
        ConfigError: an option that asks for prototypes.

    """
    options.refuse(PROTOTYPE_OPTIONS, f"{config.name}, whose masks are voted on after NMS")
    return config.override_given(
        iou_threshold=options.iou_threshold,
        max_detections=options.max_detections,
        nms=options.nms,
        candidate_threshold=options.candidate_threshold,
    )


def rule_of(config: FCISConfig) -> VotingRule:
    """How the regions of a network with this config become instances."""
    return VotingRule(
        nms=config.nms,
        iou_threshold=config.iou_threshold,
        candidate_threshold=config.candidate_threshold,
        max_detections=config.max_detections,
        vote_iou=config.vote_iou,
    )


@torch.no_grad()
def detect(network: FCIS, output: FCISOutput, options: PredictOptions) -> list[VotingRows]:
    """The regions of B images, on the CPU: what is kept of them depends on the original size, which `paint` knows.

    Raises:
        ConfigError: the output is that of a network in training mode.

    """
    if network.training or len(output.regions) != len(output.image_sizes):
        raise ConfigError("output: expected that of a network in evaluation mode, got one in training mode")
    return [
        VotingRows(
            boxes=regions.boxes.float().cpu().numpy(),
            class_probs=regions.class_logits.softmax(dim=1)[:, 1:].float().cpu().numpy(),
            mask_probs=regions.mask_probs.float().cpu().numpy(),
        )
        for regions in output.regions
    ]


def paint(network: FCIS, rows: VotingRows, image_size: tuple[int, int], options: PredictOptions) -> Instances:
    """The instances of one image of an original size (H, W)."""
    config = settle(network.config, options)
    return voting.paint(
        rows,
        image_size,
        network.class_names,
        rule_of(config),
        scale=short_side_scale(image_size, config.image_size, config.max_image_size),
        score_threshold=options.score_threshold,
        labels=options.labels(network.class_names),
    )
