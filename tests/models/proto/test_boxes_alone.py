from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from protomask.models.proto.boxes_alone import loss_from_boxes

SIDE = 24
BOX = (slice(4, 20), slice(6, 18))
ROWS, COLUMNS = torch.arange(SIDE)[:, None], torch.arange(SIDE)[None]
DISC: Tensor = ((ROWS - 11.5) / 8) ** 2 + ((COLUMNS - 11.5) / 6) ** 2 <= 1


def rectangle() -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[BOX] = True
    return mask


def loss_of(mask: Tensor, object_color: tuple[float, ...] = (0.9, 0.2, 0.2)) -> float:
    """Of a sure mask of a disc of one colour on blue that fills the box."""
    colors = torch.where(DISC[..., None], torch.tensor(object_color), torch.tensor([0.1, 0.1, 0.5]))
    logits = torch.where(mask, 8.0, -8.0).reshape(1, 1, -1)
    return float(loss_from_boxes(logits, rectangle().reshape(1, -1), colors.reshape(1, -1, 3), SIDE))


def test_the_object_itself_costs_least() -> None:
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[8:16, 9:15] = True
    everything = torch.ones_like(inside)
    nothing = torch.zeros_like(inside)
    for other in (rectangle(), inside, everything, nothing):
        assert loss_of(other) > loss_of(DISC) + 0.2


def test_where_nothing_can_be_told_apart_the_box_is_filled() -> None:
    alike = (0.1, 0.1, 0.5)
    assert loss_of(rectangle(), alike) < loss_of(DISC, alike)


def test_gradients_lead_to_the_object() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, SIDE * SIDE).requires_grad_()
    colors = torch.where(DISC[..., None], torch.tensor([0.9, 0.2, 0.2]), torch.tensor([0.1, 0.1, 0.5]))
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        loss: Any = loss_from_boxes(logits, rectangle().reshape(1, -1), colors.reshape(1, -1, 3), SIDE).sum()
        loss.backward()
        optimizer.step()
    found = (logits.detach() > 0).reshape(SIDE, SIDE)
    assert int((found & DISC).sum()) / int((found | DISC).sum()) > 0.95
