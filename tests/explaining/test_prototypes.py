"""Prototypes that are one thing by construction get its name; sums come apart again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.explaining.prototypes import (
    measure_prototypes,
    on_grid,
    outline_band,
    position_correlation,
    share_of_use,
    sum_prototypes,
)

OBJECTS = np.zeros((2, 24, 32), dtype=np.bool_)
OBJECTS[0, 4:12, 5:13] = OBJECTS[1, 10:20, 18:28] = True
BOTH = OBJECTS.any(axis=0)
ROWS, COLUMNS = np.mgrid[0:24, 0:32].astype(np.float32)


def noise(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((24, 32), dtype=np.float32)


@pytest.mark.parametrize(
    ("kind", "prototype"),
    [
        ("position", np.maximum(COLUMNS - 16, 0)),
        ("position", 24 - ROWS),
        ("outline", outline_band(OBJECTS) + 0.2 * noise()),
        ("foreground", BOTH + 0.2 * noise()),
        ("background", 3.0 * ~BOTH + 0.2 * noise()),
        ("mixed", noise()),
        ("nothing", np.full((24, 32), 2.0)),
        ("nothing", np.zeros((24, 32))),
    ],
)
def test_a_prototype_is_named_after_what_it_responds_to(kind: str, prototype: NDArray[np.float32]) -> None:
    maps = np.stack([noise(1), prototype], axis=2).astype(np.float32)
    facts = measure_prototypes(maps, OBJECTS, np.array([0.75, 0.25]))
    assert [one.number for one in facts] == [0, 1]
    assert [one.use for one in facts] == [0.75, 0.25]
    assert facts[1].kind == kind


def test_without_objects_only_the_place_is_measured() -> None:
    maps = np.stack([COLUMNS, BOTH.astype(np.float32)], axis=2)
    for objects in (None, np.zeros((0, 24, 32), dtype=np.bool_)):
        ramp, other = measure_prototypes(maps, objects, np.array([0.6, 0.4]))
        assert (ramp.kind, ramp.outline, ramp.foreground) == ("position", None, None)
        assert other.kind == "mixed"


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-5, 5))
def test_a_plane_is_all_position(x: float, y: float, height: float) -> None:
    plane = (x * COLUMNS + y * ROWS + height).astype(np.float32)[:, :, None]
    expected = 1.0 if abs(x) + abs(y) > 1e-3 else None
    found = float(position_correlation(plane)[0])
    assert found == pytest.approx(expected, abs=1e-3) if expected else 0 <= found <= 1


def test_the_band_lies_on_both_sides_of_edges_and_not_along_the_frame() -> None:
    half = np.zeros((1, 6, 8), dtype=np.bool_)
    half[0, :, :4] = True
    assert outline_band(half).any(axis=0).tolist() == [False, False, False, True, True, False, False, False]
    assert outline_band(half)[:, 3:5].all()


def test_masks_of_an_image_become_cells() -> None:
    mask = np.zeros((48, 128), dtype=np.bool_)
    mask[:24, :64] = True
    assert on_grid([mask], (4, 8)).tolist() == [[[True] * 4 + [False] * 4] * 2 + [[False] * 8] * 2]
    assert on_grid([], (4, 8)).shape == (0, 4, 8)


def test_use_is_what_is_added_within_the_boxes() -> None:
    maps = np.zeros((4, 4, 3), dtype=np.float32)
    maps[:2, :2, 0], maps[2:, 2:, 1], maps[:2, :2, 2] = 1, 9, 1
    window = np.zeros((1, 4, 4), dtype=np.bool_)
    window[0, :2, :2] = True
    coefficients = np.array([[1.0, 1.0, -3.0]], dtype=np.float32)
    assert share_of_use(maps, coefficients, window).tolist() == [0.25, 0.0, 0.75]
    nobody = share_of_use(maps, coefficients[:0], window[:0])
    assert nobody.tolist() == pytest.approx([1 / 11, 9 / 11, 1 / 11])


def test_a_sum_comes_apart() -> None:
    maps = np.zeros((4, 6, 3), dtype=np.float32)
    maps[1:3, :, 0] = 2.0  # a stripe across the whole image
    maps[:, :, 1] = 1.0  # holds everything down
    window = np.zeros((4, 6), dtype=np.bool_)
    window[:, :3] = True
    total = sum_prototypes(maps, np.array([1.0, -1.0, 0.5], dtype=np.float32), window, (40, 60))
    assert total.inside.tolist() == [2.0, -1.0, 0.0]
    assert total.around.tolist() == [0.0, -1.0, 0.0]
    assert total.order.tolist() == [0, 1, 2]
    assert total.growth.tolist() == [1.0, 1.0, 1.0]
    assert total.leakage == 0.5
    assert total.leaked_pixels == 600
    assert np.allclose(total.uncropped[1:3], 1 / (1 + np.exp(-1)))
    assert np.allclose(total.uncropped[0], 1 / (1 + np.exp(1)))


def test_a_mask_grows_to_what_all_prototypes_give() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((12, 10, 40), dtype=np.float32)
    window = np.zeros((12, 10), dtype=np.bool_)
    window[2:9, 3:9] = True
    total = sum_prototypes(maps, rng.standard_normal(40).astype(np.float32), window, (100, 90))
    assert sorted(total.order.tolist()) == list(range(40))
    assert total.growth[-1] == 1
    assert (total.growth >= 0).all()
    assert total.growth.shape == (40,)


def test_an_empty_box_has_an_empty_mask() -> None:
    window = np.zeros((4, 4), dtype=np.bool_)
    total = sum_prototypes(np.ones((4, 4, 2), dtype=np.float32), np.ones(2, dtype=np.float32), window, (8, 8))
    assert total.leakage == 1
    assert total.inside.tolist() == total.around.tolist() == [0, 0]
    assert total.growth.tolist() == [1, 1]
