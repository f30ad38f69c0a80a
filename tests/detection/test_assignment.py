from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protomask.detection.assignment import assign
from protomask.errors import DataError

sizes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=8)
gains_of_any_size = hnp.arrays(np.float64, sizes, elements=st.floats(-5, 5, width=32)) | hnp.arrays(
    np.float64,
    sizes,
    elements=st.integers(-2, 3).map(float),  # many of them equal
)


@given(gains_of_any_size)
def test_pairs_are_as_good_as_scipy_finds(gains: NDArray[np.float64]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rows, columns = assign(gains)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(set(columns.tolist())) == len(rows)
    assert (gains[rows, columns] > 0).all()
    wanted = np.maximum(gains, 0)
    best = wanted[optimize.linear_sum_assignment(wanted, maximize=True)].sum()
    assert gains[rows, columns].sum() == pytest.approx(best)


@pytest.mark.parametrize(
    ("gains", "pairs"),
    [
        ([[5.0, 4.0], [4.0, 1.0]], [(0, 1), (1, 0)]),  # the best pair alone would be worse
        ([[5.0, 4.0], [4.0, 2.0], [9.0, 9.0]], [(0, 0), (2, 1)]),
        ([[0.0, -1.0], [0.5, 0.0]], [(1, 0)]),
        ([[-1.0]], []),
        ([[1.0, 1.0, 1.0]], [(0, 0)]),
    ],
)
def test_small_cases(gains: list[list[float]], pairs: list[tuple[int, int]]) -> None:
    rows, columns = assign(np.array(gains))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == pairs


@pytest.mark.parametrize("gains", [np.zeros(3), np.array([[np.nan]]), np.array([[np.inf, 1.0]])], ids=str)
def test_what_is_no_matrix_of_numbers(gains: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match="gains: expected finite numbers"):
        assign(gains)
