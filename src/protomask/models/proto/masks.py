"""From mask parameters to mask logits, for both kinds of mask heads."""

from __future__ import annotations

import torch
from torch import Tensor

from protomask.models.proto.config import ProtoConfig

MIN_HALF_SIDE = 1e-3
"""Smallest half side of a box, relative to the image: places are measured in half sides."""


def mask_logits(
    config: ProtoConfig, parameters: Tensor, prototypes: Tensor, positions: Tensor, boxes: Tensor
) -> Tensor:
    """Logits of masks at some places.

    Args:
        config: of the network.
        parameters: (..., N, m) of the masks.
        prototypes: (..., P, k) at the places.
        positions: (..., P, 2) x and y of the places, relative to the image.
        boxes: (..., N, 4) xyxy of the masks, relative to the image.

    Returns:
        (..., N, P).

    """
    if config.mask_head == "linear":
        return parameters @ prototypes.transpose(-1, -2)
    count, width = config.num_prototypes, config.dynamic_channels
    first, offset, second, last = torch.split(parameters, [(count + 2) * width, width, width, 1], dim=-1)
    first = first.reshape(*first.shape[:-1], width, count + 2)
    # (..., N * width, k) times (..., k, P), as one product
    hidden = first[..., :count].flatten(-3, -2) @ prototypes.transpose(-1, -2)
    hidden = hidden.reshape(*parameters.shape[:-1], width, hidden.shape[-1])
    where = relative_positions(positions, boxes)
    hidden = hidden + first[..., count:] @ where.transpose(-1, -2) + offset[..., None]
    logits: Tensor = (hidden.relu() * second[..., None]).sum(dim=-2) + last
    return logits


def relative_positions(positions: Tensor, boxes: Tensor) -> Tensor:
    """(..., N, P, 2): where places lie in boxes, -1 and 1 on their sides; arguments as of `mask_logits`."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = ((boxes[..., 2:] - boxes[..., :2]).abs() / 2).clamp(min=MIN_HALF_SIDE)
    return ((positions[..., None, :, :] - centre[..., None, :]) / half[..., None, :]).clamp(-2, 2)


def grid_positions(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h * w, 2) x and y of the centres of the cells of a grid, relative to the image."""
    y = (torch.arange(size[0], device=like.device, dtype=like.dtype) + 0.5) / size[0]
    x = (torch.arange(size[1], device=like.device, dtype=like.dtype) + 0.5) / size[1]
    return torch.stack((x[None].expand(size[0], -1), y[:, None].expand(-1, size[1])), dim=-1).reshape(-1, 2)
