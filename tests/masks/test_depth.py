"""Depth of pixels, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.masks.depth import depths


def reference(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    found = np.zeros(mask.shape)
    for row, column in np.argwhere(mask):
        found[row, column] = np.sqrt(((outside - (row + 1, column + 1)) ** 2).sum(axis=1).min())
    return found


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.floats(0.5, 1))
def test_depths_are_distances_from_the_outline(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_allclose(depths(mask), reference(mask), rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_nothing_has_no_depth(shape: tuple[int, int]) -> None:
    assert depths(np.ones(shape, dtype=np.bool_)).shape == shape
