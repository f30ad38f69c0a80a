from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.masks.grids import (
    GridWindow,
    MaskPaste,
    assemble_windows,
    cut_windows,
    interpolate_runs,
    region_lines,
    resized_line,
)
from protomask.masks.rle import decode_rle, encode_runs
from protomask.masks.runs import mask_runs, runs_to_window

Floats = NDArray[np.float32]
grids = st.tuples(*[st.integers(1, 24)] * 2)
sizes = st.tuples(*[st.integers(1, 60)] * 2)
seeds = st.integers(0, 2**32)


def uniform(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def interpolated(probs: Floats, size: tuple[int, int]) -> NDArray[np.float64]:
    """(N, h, w) to (N, H, W): the dense definition that every mask on a grid stands for.

    Places are float32 as PyTorch's are, values float64.
    """
    dense: NDArray[np.float64] = probs.astype(np.float64)
    for axis, pixels in zip((1, 2), size, strict=True):
        cells = probs.shape[axis]
        scale = np.float32(cells) / np.float32(pixels)
        place = (scale * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)).clip(0, None)
        first = np.minimum(place.astype(np.int64), cells - 1)
        share = (place - first).astype(np.float64).reshape([-1 if own == axis else 1 for own in range(3)])
        second = np.minimum(first + 1, cells - 1)
        dense = dense.take(first, axis) * (1 - share) + dense.take(second, axis) * share
    return dense


@given(grids, sizes, seeds)
@settings(max_examples=50)
def test_the_dense_definition_is_pytorchs(grid: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    torch = pytest.importorskip("torch")
    probs = uniform(seed, 2, *grid)
    resize = torch.nn.functional.interpolate
    wanted = resize(torch.from_numpy(probs)[None], size, mode="bilinear", align_corners=False)[0].numpy()
    np.testing.assert_allclose(interpolated(probs, size), wanted, rtol=0, atol=1e-6)


def enlarged(
    windows: list[GridWindow], grid: tuple[int, int], size: tuple[int, int], threshold: float = 0.5
) -> NDArray[np.bool_]:
    """(N, H, W) bool, by runs and windows."""
    rows, columns = (resized_line(*sides) for sides in zip(grid, size, strict=True))
    masks = np.zeros((len(windows), *size), dtype=np.bool_)
    found = interpolate_runs(windows, rows, columns, size[0], threshold=threshold)
    for mask, runs in zip(masks, found, strict=True):
        assert (np.diff(runs.ravel()) > 0).all()
        top, left, part = runs_to_window(runs, size[0])
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert np.array_equal(decode_rle(encode_runs([runs], size)[0]), mask)
        assert np.array_equal(mask_runs(mask), runs)
    return masks


@given(grids, sizes, seeds, st.booleans(), st.sampled_from([0.0, 0.3, 0.5]))
@settings(max_examples=150)
def test_runs_are_those_of_the_dense_definition(
    grid: tuple[int, int], size: tuple[int, int], seed: int, sparse: bool, threshold: float
) -> None:
    """Equal but where the interpolated value is within 1e-6 of the threshold.

    There rounding decides: the crossing down a column is computed in float64 from columns interpolated in float32. The
    next test has no such pixels.
    """
    probs = uniform(seed, 3, *grid)
    if sparse:
        probs *= uniform(seed + 1, 3, *grid) > 0.8
    dense = interpolated(probs, size)
    differ = enlarged(cut_windows(probs, threshold=threshold), grid, size, threshold) != (dense > threshold)
    assert (np.abs(dense[differ] - threshold) < 1e-6).all()


@given(grids, st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 2), seeds, st.sampled_from([2, 4, 64]))
@settings(max_examples=150)
def test_runs_are_bit_equal_to_the_dense_definition_where_floats_are_exact(
    grid: tuple[int, int], factors: tuple[int, int], seed: int, levels: int
) -> None:
    """Multiples of 1/64, enlarged by powers of two: no rounding anywhere, and many values exactly at the threshold."""
    numbers = np.random.default_rng(seed).integers(0, levels + 1, (3, *grid))
    probs = (numbers / levels).astype(np.float32)
    size = (grid[0] * factors[0], grid[1] * factors[1])
    assert np.array_equal(enlarged(cut_windows(probs), grid, size), interpolated(probs, size) > 0.5)


def assembled(prototypes: Floats, coefficients: Floats, boxes: Floats, padding: int) -> NDArray[np.float64]:
    """(N, h, w): the sigmoid of the combination, zero outside the boxes."""
    height, width, _ = prototypes.shape
    probs = 1 / (1 + np.exp(-np.einsum("hwk,nk->nhw", prototypes.astype(np.float64), coefficients)))
    corners = boxes * np.array([width, height, width, height], dtype=np.float32)
    low = np.minimum(corners[:, :2], corners[:, 2:]) - np.float32(padding)
    high = np.maximum(corners[:, :2], corners[:, 2:]) + np.float32(padding)
    rows, columns = np.arange(height), np.arange(width)
    inside_rows = (rows >= low[:, 1:]) & (rows < high[:, 1:])
    inside_columns = (columns >= low[:, :1]) & (columns < high[:, :1])
    return np.where(inside_rows[:, :, None] & inside_columns[:, None], probs, 0)


@given(grids, sizes, seeds, st.integers(0, 2))
@settings(max_examples=150)
def test_assembly_in_windows_is_assembly_and_crop(
    grid: tuple[int, int], size: tuple[int, int], seed: int, padding: int
) -> None:
    random = np.random.default_rng(seed)
    prototypes = random.standard_normal((*grid, 4), dtype=np.float32)
    coefficients = random.standard_normal((5, 4), dtype=np.float32)
    boxes = random.random((5, 4), dtype=np.float32) * 2 - np.float32(0.5)  # reversed and outside, too
    dense = assembled(prototypes, coefficients, boxes, padding)
    windows = assemble_windows(prototypes, coefficients, boxes, padding=padding)
    painted = np.zeros(dense.shape, dtype=np.float32)
    for probs, (top, left, part) in zip(painted, windows, strict=True):
        probs[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert np.array_equal(painted > 0, dense > 0)
    np.testing.assert_allclose(painted, dense, rtol=0, atol=1e-6)
    # The same floats give the same masks, whether they come as windows or as whole grids.
    from_windows = enlarged(windows, grid, size)
    assert np.array_equal(from_windows, enlarged(cut_windows(painted), grid, size))
    values = interpolated(painted, size)
    assert (np.abs(values[from_windows != (values > 0.5)] - 0.5) < 1e-6).all()


def test_the_threshold_is_strict() -> None:
    assert not enlarged(cut_windows(np.full((1, 2, 2), 0.5, dtype=np.float32)), (2, 2), (2, 2)).any()
    assert enlarged(cut_windows(np.full((1, 2, 2), 0.6, dtype=np.float32)), (2, 2), (3, 5)).all()


@pytest.mark.filterwarnings("error")
def test_diverged_probabilities_give_some_mask() -> None:
    probs = uniform(0, 3, 6, 6)
    probs[0, 2:4], probs[1, 1, 1], probs[2, 3] = np.nan, np.inf, -np.inf
    assert enlarged(cut_windows(probs), (6, 6), (20, 30)).shape == (3, 20, 30)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_a_diverged_network_gives_some_windows(value: float) -> None:
    prototypes, coefficients = uniform(0, 5, 6, 3), uniform(1, 2, 3)
    boxes = np.array([[0, 0, 1, 1], [np.nan, -np.inf, np.inf, 0.5]], dtype=np.float32)
    for broken in (prototypes, coefficients):
        broken.ravel()[::2] = value
    windows = assemble_windows(prototypes, coefficients, boxes)
    assert enlarged(windows, (5, 6), (20, 30)).shape == (2, 20, 30)


def test_no_masks_and_no_pixels() -> None:
    assert cut_windows(np.zeros((0, 4, 4), dtype=np.float32)) == enlarged([], (4, 4), (7, 9)).tolist() == []
    nothing = np.zeros((0, 2), dtype=np.float32), np.zeros((0, 4), dtype=np.float32)
    assert assemble_windows(np.zeros((4, 4, 2), dtype=np.float32), *nothing) == []
    assert not enlarged(cut_windows(np.zeros((2, 4, 4), dtype=np.float32)), (4, 4), (7, 9)).any()


def test_windows_are_copies() -> None:
    probs = np.ones((1, 4, 4), dtype=np.float32)
    (window,) = cut_windows(probs)
    probs[:] = 0
    assert (window.probs == 1).all()


# Pasting

SIZE = (40, 50)
Box = tuple[float, float, float, float]
BOXES: dict[str, Box] = {
    "inside": (3.3, 4.7, 20.2, 30.9),
    "whole pixels": (10.0, 10.0, 20.0, 20.0),
    "whole image": (0.0, 0.0, 50.0, 40.0),
    "over the corner": (-7.5, -3.2, 12.1, 9.9),
    "over the far corner": (41.0, 33.0, 66.0, 58.0),
    "larger than the image": (-20.0, -30.0, 80.0, 90.0),
    "small": (10.2, 10.3, 10.9, 11.1),
    "no width": (10.0, 5.0, 10.0, 25.0),
    "no area": (10.5, 5.5, 10.5, 5.5),
}


def pasted(mask: Floats, box: Box, *, paste: MaskPaste) -> NDArray[np.bool_]:
    rows, columns = region_lines(box, len(mask), SIZE, paste=paste)
    (runs,) = interpolate_runs([GridWindow(0, 0, mask)], rows, columns, SIZE[0])
    return decode_rle(encode_runs([runs], SIZE)[0])


def full(value: float) -> Floats:
    return np.full((28, 28), value, dtype=np.float32)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_integer_paste_equals_torchvisions(box: Box) -> None:
    torch = pytest.importorskip("torch")
    heads: Any = pytest.importorskip("torchvision.models.detection.roi_heads")
    for seed in range(5):
        blob = uniform(seed, 28, 28)
        wanted = heads.paste_masks_in_image(torch.from_numpy(blob)[None, None], torch.tensor([box]), SIZE)[0, 0].numpy()
        differ = pasted(blob, box, paste="integer") != (wanted > 0.5)
        assert (np.abs(wanted[differ] - 0.5) < 1e-5).all()


@pytest.mark.parametrize("box", [box for name, box in BOXES.items() if not name.startswith("no ")])
def test_continuous_paste_equals_sampling_the_whole_image(box: Box) -> None:
    torch = pytest.importorskip("torch")
    x1, y1, x2, y2 = box
    y = (torch.arange(SIZE[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (torch.arange(SIZE[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    for seed in range(5):
        blob = uniform(seed, 28, 28)
        sampled = torch.nn.functional.grid_sample(torch.from_numpy(blob)[None, None], places, align_corners=False)
        wanted = sampled[0, 0].numpy()
        differ = pasted(blob, box, paste="continuous") != (wanted > 0.5)
        assert (np.abs(wanted[differ] - 0.5) < 1e-4).all()


@pytest.mark.parametrize("box", [BOXES["whole pixels"], BOXES["over the corner"], BOXES["larger than the image"]])
def test_a_full_mask_covers_the_pixels_whose_centres_are_in_its_box(box: Box) -> None:
    x1, y1, x2, y2 = box
    y, x = np.arange(SIZE[0])[:, None] + 0.5, np.arange(SIZE[1]) + 0.5
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    assert np.array_equal(pasted(full(1.0), box, paste="continuous"), inside)
    assert np.array_equal(pasted(full(1.0), box, paste="pixels"), inside)
    # The integer box has both its ends inside.
    assert (pasted(full(1.0), box, paste="integer") >= inside).all()


@pytest.mark.parametrize("box", [(10.0, 5.0, 47.0, 21.0), (0.0, 30.0, 1.0, 40.0), (-8.0, -4.0, 20.0, 9.0)])
def test_pixels_paste_equals_resizing_the_mask_to_its_box(box: Box) -> None:
    blob = uniform(3, 21, 21)
    x1, y1, x2, y2 = (int(side) for side in box)
    wanted = np.zeros(SIZE)
    dense = interpolated(blob[None], (y2 - y1, x2 - x1))[0]
    wanted[max(y1, 0) : y2, max(x1, 0) : x2] = dense[max(-y1, 0) :, max(-x1, 0) :]
    differ = pasted(blob, box, paste="pixels") != (wanted > 0.5)
    assert (np.abs(wanted[differ] - 0.5) < 1e-4).all()


@pytest.mark.parametrize("paste", ["integer", "continuous", "pixels"])
@pytest.mark.parametrize(
    "box", [(-30.0, 5.0, -10.0, 9.0), (5.0, -30.0, 9.0, -10.0), (70.0, 5.0, 90.0, 9.0), (5.0, 60.0, 9.0, 80.0)]
)
def test_regions_outside_the_image_have_no_pixel(box: Box, paste: MaskPaste) -> None:
    assert not pasted(full(1.0), box, paste=paste).any()


@pytest.mark.parametrize("box", [BOXES["no width"], BOXES["no area"]])
def test_continuous_paste_of_boxes_without_area(box: Box) -> None:
    assert not pasted(full(0.4), box, paste="continuous").any()
    assert pasted(full(0.7), box, paste="continuous").sum() <= 3 * 22
