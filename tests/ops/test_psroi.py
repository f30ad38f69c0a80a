from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protomask.ops.psroi import bin_cells, pool_groups, round_half_away

GROUPS, BINS = 2, 4
SIZE = (9, 12)


def by_hand(maps: Tensor, box: list[float]) -> Tensor:
    """(bins, bins, K), cell by cell."""
    pooled = torch.zeros(BINS, BINS, maps.shape[0] // GROUPS**2, dtype=maps.dtype)
    whole = [math.copysign(math.floor(abs(side) + 0.5), side) for side in box]
    edges = []
    for low, high in ((whole[1], whole[3]), (whole[0], whole[2])):
        start, end = np.float32(low / 16), np.float32((high + 1) / 16)
        step = np.float32(max(np.float32(end - start), np.float32(0.1)) / np.float32(BINS))
        place = [np.float32(index) * step + start for index in range(BINS + 1)]
        edges.append([(math.floor(place[index]), math.ceil(place[index + 1])) for index in range(BINS)])
    for row, (top, bottom) in enumerate(edges[0]):
        for column, (left, right) in enumerate(edges[1]):
            group = (row * GROUPS // BINS) * GROUPS + column * GROUPS // BINS
            cells = maps[group :: GROUPS**2, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].flatten(1)
            if cells.shape[1]:
                pooled[row, column] = cells.mean(dim=1)
    return pooled


corners = st.floats(-40, 230, width=32)


@settings(max_examples=50)
@given(box=st.tuples(corners, corners, corners, corners))
def test_equals_the_mean_of_the_cells(box: tuple[float, float, float, float]) -> None:
    maps = torch.randn(3 * GROUPS**2, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cells = bin_cells(torch.tensor([box]), SIZE, bins=BINS, stride=16)
    torch.testing.assert_close(pool_groups(maps, cells, groups=GROUPS)[0], by_hand(maps, list(box)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.5, 3), (33.5, 34), (0.49999997, 0), (-2.5, -3), (-0.2, 0), (7.0, 7), (8388609.0, 8388609)],
)
def test_halves_are_rounded_away_from_zero(value: float, expected: int) -> None:
    assert float(round_half_away(torch.tensor(value))) == expected


def test_no_region_still_has_a_gradient() -> None:
    maps = torch.randn(GROUPS**2, *SIZE, requires_grad=True)
    pooled: Any = pool_groups(maps, bin_cells(torch.zeros(0, 4), SIZE, bins=BINS, stride=16), groups=GROUPS)
    assert pooled.shape == (0, BINS, BINS, 1)
    pooled.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def test_every_cell_gets_its_share_of_the_gradient() -> None:
    maps = torch.zeros(GROUPS**2, *SIZE, requires_grad=True)
    box = torch.tensor([[0.0, 0.0, SIZE[1] * 16 - 1, SIZE[0] * 16 - 1]])
    pooled: Any = pool_groups(maps, bin_cells(box, SIZE, bins=BINS, stride=16), groups=GROUPS)
    pooled.sum().backward()
    assert maps.grad is not None
    assert float(maps.grad.sum()) == pytest.approx(BINS**2)
