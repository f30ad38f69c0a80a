from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.masks.grids import MaskPaste
from protomask.masks.rle import decode_rle, encode_runs
from protomask.structures.mask_sources import DenseMasks, GridMasks, MaskSource, RegionMasks, RunMasks

SIZE = (12, 16)
Floats = NDArray[np.float32]


def painted(source: MaskSource) -> NDArray[np.bool_]:
    """(N, H, W)."""
    masks = [decode_rle(code) for code in encode_runs(list(source.runs()), SIZE)]
    assert len(masks) == len(source)
    return np.stack([np.zeros(SIZE, dtype=np.bool_), *masks])[1:]


def probs(count: int, *size: int) -> Floats:
    return np.random.default_rng(count).random((count, *size), dtype=np.float32)


def grid(count: int = 5) -> GridMasks:
    return GridMasks(probs(count, 4, 4), SIZE)


def assembled(count: int = 5) -> GridMasks:
    random = np.random.default_rng(count)
    prototypes, coefficients = random.standard_normal((4, 4, 3)), random.standard_normal((count, 3))
    boxes = np.concatenate([random.random((count, 2)) * 0.3, 0.7 + random.random((count, 2)) * 0.3], axis=1)
    arrays = (prototypes.astype(np.float32), coefficients.astype(np.float32), boxes.astype(np.float32))
    return GridMasks.assemble(*arrays, SIZE)


def regions(count: int = 5, *, paste: MaskPaste = "integer") -> RegionMasks:
    random = np.random.default_rng(count)
    low = random.random((count, 2)) * 10 - 2
    boxes = np.concatenate((low, low + 1 + 6 * random.random((count, 2))), axis=1).astype(np.float32)
    return RegionMasks(probs(count, 28, 28), boxes, SIZE, paste=paste)


SOURCES: dict[str, Callable[[int], MaskSource]] = {
    "dense": lambda count: DenseMasks(painted(grid(count))),
    "runs": lambda count: RunMasks(list(grid(count).runs())),
    "grid": grid,
    "assembled": assembled,
    "regions": regions,
    "continuous regions": lambda count: regions(count, paste="continuous"),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("chosen", [[2, 0], [4], [], [1, 1, 3], [0, 1, 2, 3, 4]])
def test_sources_are_indexed_alike(make: Callable[[int], MaskSource], chosen: list[int]) -> None:
    source = make(5)
    whole = painted(source)
    assert whole.shape == (5, *SIZE)
    assert whole.any()
    part = source[np.array(chosen, dtype=np.int64)]
    assert len(part) == len(chosen)
    np.testing.assert_array_equal(painted(part), whole[chosen])
    np.testing.assert_array_equal(painted(source), whole)


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_more_masks_than_are_computed_together(make: Callable[[int], MaskSource]) -> None:
    source = make(37)
    whole = painted(source)
    for place in (0, 15, 16, 36):
        np.testing.assert_array_equal(painted(source[np.array([place])])[0], whole[place])


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_no_masks(make: Callable[[int], MaskSource]) -> None:
    assert len(make(0)) == 0
    assert list(make(0).runs()) == []


def test_dense_masks_and_runs_of_a_grid_are_its_masks() -> None:
    wanted = painted(grid())
    np.testing.assert_array_equal(painted(SOURCES["dense"](5)), wanted)
    np.testing.assert_array_equal(painted(SOURCES["runs"](5)), wanted)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_a_grid_with_another_threshold(threshold: float) -> None:
    level = np.full((1, 4, 4), 0.6, dtype=np.float32)
    assert painted(GridMasks(level, SIZE, threshold)).all() == (threshold < 0.6)


@pytest.mark.parametrize("paste", ["integer", "continuous", "pixels"])
def test_region_masks_lie_in_their_boxes(paste: MaskPaste) -> None:
    boxes = np.array([[2, 3, 10, 8], [-5, -5, 4, 20]], dtype=np.float32)
    masks = painted(RegionMasks(np.ones((2, 28, 28), dtype=np.float32), boxes, SIZE, paste=paste))
    wanted = np.zeros((2, *SIZE), dtype=np.bool_)
    wanted[0, 3:8, 2:10] = True
    wanted[1, :, :4] = True
    assert (masks >= wanted).all()
    # The integer box has both its ends inside.
    assert (masks ^ wanted).sum(axis=(1, 2)).max() <= (30 if paste == "integer" else 0)


@pytest.mark.parametrize(("paste", "filled"), [("integer", False), ("continuous", True), ("pixels", True)])
def test_a_probability_of_a_half(paste: MaskPaste, filled: bool) -> None:
    box = np.array([[0, 0, 16, 12]], dtype=np.float32)
    half = np.full((1, 28, 28), 0.5, dtype=np.float32)
    masks = painted(RegionMasks(half, box, SIZE, paste=paste))
    assert masks[0, 2:-2, 2:-2].all() == filled
    assert masks.any() == filled


def test_masks_of_whole_boxes_begin_at_four_tenths() -> None:
    box = np.array([[2, 3, 10, 8]] * 3, dtype=np.float32)
    levels = np.array([0.39, 0.4, 0.41], dtype=np.float32)[:, None, None] + np.zeros((3, 21, 21), dtype=np.float32)
    masks = painted(RegionMasks(levels, box, SIZE, paste="pixels"))
    assert masks.sum(axis=(1, 2)).tolist() == [0, 40, 40]
