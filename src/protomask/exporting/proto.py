"""How the output of a modern prototype network is read in an exported graph."""

from __future__ import annotations

from torch import Tensor

from protomask.exporting.prototypes import Reading
from protomask.models.proto.boxes import boxes_of, logits_of
from protomask.models.proto.detect import mask_probs
from protomask.models.proto.heads import ProtoOutput
from protomask.models.proto.model import ProtoNetwork


def candidates_of(network: ProtoNetwork, output: ProtoOutput) -> tuple[Tensor, ...]:
    """What the network says before anything is chosen: class logits, boxes, mask parameters and prototypes."""
    config = network.config
    return logits_of(config, output), boxes_of(config, output), output.mask_parameters, output.prototypes


def _masks(network: ProtoNetwork, prototypes: Tensor, mask_parameters: Tensor, boxes: Tensor) -> Tensor:
    return mask_probs(network, mask_parameters, prototypes, boxes)


READING = Reading(
    candidates=candidates_of, masks=_masks, sums=lambda network: bool(network.config.mask_head == "linear")
)
