"""Mask probabilities on grids, and the pixels they make after bilinear interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.masks.runs import Runs, boxes_of_masks

MaskPaste = Literal["integer", "continuous", "pixels"]
"""How the mask of a region becomes pixels, see `region_lines`."""
PASTE_THRESHOLDS: dict[MaskPaste, float] = {
    "integer": 0.5,
    "continuous": float(np.nextafter(np.float32(0.5), np.float32(0))),
    "pixels": float(np.nextafter(np.float32(0.4), np.float32(0))),
}
"""A pixel belongs to the mask when its probability is above: at least 0.5 is more than the number before 0.5."""


class GridWindow(NamedTuple):
    """Mask probabilities on a part of a grid: `probs` (h, w) float32, its first cell in (row `top`, column `left`). On
    all other cells they are zero.
    """

    top: int
    left: int
    probs: NDArray[np.float32]


class PixelLine(NamedTuple):
    """Where the centres of consecutive pixels lie on one axis of a grid.

    The first pixel is number `first` of its frame; `positions` (P,) float32 count in grid cells, whole numbers being
    the centres of cells, and never fall.
    """

    first: int
    positions: NDArray[np.float32]


def assemble_windows(
    prototypes: NDArray[np.float32],
    mask_coefficients: NDArray[np.float32],
    boxes: NDArray[np.float32],
    *,
    padding: int = 1,
    as_logits: bool = False,
) -> list[GridWindow]:
    """Linear combination of prototypes (YOLACT eq. 1) cropped to the boxes, computed only inside them.

    Args:
        prototypes: (h, w, k) float32, prototype grid.
        mask_coefficients: (N, k) float32.
        boxes: (N, 4) float32 xyxy, relative to the frame that the grid covers.
        padding: grid cells kept around each box.
        as_logits: leave out the sigmoid.

    Returns:
        N windows of probabilities in 0..1, or of logits.
    """
    height, width, count = prototypes.shape
    grid = np.ascontiguousarray(prototypes)
    places = _cells_of_boxes(boxes, (height, width), padding)
    ends = np.cumsum([0] + [(right - left) * (bottom - top) for left, top, right, bottom in places]).tolist()
    cells = np.empty(ends[-1], dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # of a network that diverged
        for (left, top, right, bottom), weight, start, end in zip(
            places, mask_coefficients, ends[:-1], ends[1:], strict=True
        ):
            np.dot(grid[top:bottom, left:right].reshape(-1, count), weight, out=cells[start:end])
        if not as_logits:
            # The sigmoid, in place.
            np.negative(cells, out=cells)
            np.exp(cells, out=cells)
            cells += 1
            np.reciprocal(cells, out=cells)
    return [
        GridWindow(top, left, cells[start:end].reshape(bottom - top, right - left))
        for (left, top, right, bottom), start, end in zip(places, ends[:-1], ends[1:], strict=True)
    ]


def _cells_of_boxes(boxes: NDArray[np.float32], size: tuple[int, int], padding: int) -> list[tuple[int, int, int, int]]:
    """Grid cells (left, top, right, bottom; ends excluded) inside relative boxes; see `protomask.ops.masks`.

    Corners are swapped where they are reversed, padded, and cut at the grid. A cell is inside when left <= index <
    right, so both bounds are rounded up. A box outside the grid has no cells.
    """
    height, width = size
    corners = boxes * np.array([width, height, width, height], dtype=np.float32)
    low = np.minimum(corners[:, :2], corners[:, 2:]) - np.float32(padding)
    high = np.maximum(corners[:, :2], corners[:, 2:]) + np.float32(padding)
    limits = np.array([width, height])
    low, high = (np.nan_to_num(side, nan=0.0) for side in (low, high))
    low = np.clip(np.ceil(low), 0, limits).astype(np.int64)
    high = np.clip(np.ceil(high), 0, limits).astype(np.int64)
    return [
        (left, top, max(left, right), max(top, bottom))
        for (left, top), (right, bottom) in zip(low.tolist(), high.tolist(), strict=True)
    ]


def cut_windows(mask_probs: NDArray[np.float32], *, threshold: float = 0.5) -> list[GridWindow]:
    """The parts of dense masks that decide which pixels are above a threshold after bilinear interpolation.

    Args:
        mask_probs: (N, h, w) float32.
        threshold: at least 0.

    Returns:
        N windows: the cells above the threshold and one more on each side, copied.
    """
    _, height, width = mask_probs.shape
    boxes = boxes_of_masks(mask_probs > np.float32(threshold)).astype(np.int64).tolist()
    windows = []
    for probs, (left, top, right, bottom) in zip(mask_probs, boxes, strict=True):
        rows = slice(max(top - 1, 0), min(bottom + 1, height) if bottom else 0)
        columns = slice(max(left - 1, 0), min(right + 1, width) if right else 0)
        windows.append(GridWindow(rows.start, columns.start, probs[rows, columns].copy()))
    return windows


def resized_line(cells: int, pixels: int) -> PixelLine:
    """All pixels of an axis to which a grid of `cells` is resized, as `torch.nn.functional.interpolate` places them
    (bilinear, align_corners=False).
    """
    scale = np.float32(cells) / np.float32(max(pixels, 1))
    positions = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    return PixelLine(0, positions.clip(0, max(cells - 1, 0)))


def region_lines(
    box: tuple[float, float, float, float], cells: int, size: tuple[int, int], *, paste: MaskPaste
) -> tuple[PixelLine, PixelLine]:
    """The rows and the columns of an image that the mask of a region of interest can reach (Mask R-CNN, section 3.1).

    Args:
        box: xyxy, px of the image; it may reach outside.
        cells: the mask has `cells` x `cells` on the grid of the box.
        size: (H, W) of the image.
        paste: "continuous" samples at the centres of the pixels with the box as it is; "integer" resizes to a box of
            whole pixels, one mask cell larger on each side (Mask R-CNN, version of 2017); "pixels" resizes to the box
            itself, whose corners are whole numbers, and repeats the outermost cells up to its edge (FCIS).
    """
    line = _LINES[paste]
    corners = np.array(box, dtype=np.float32)
    return line(corners[1], corners[3], cells, size[0]), line(corners[0], corners[2], cells, size[1])


def interpolate_runs(
    windows: Sequence[GridWindow], rows: PixelLine, columns: PixelLine, height: int, *, threshold: float = 0.5
) -> list[Runs]:
    """Enlarge mask probabilities by bilinear interpolation and tell which pixels are above a threshold.

    Along a column of pixels the interpolated probability is linear from one grid row to the next. So only the points
    where it crosses the threshold are computed, not the pixels between them: time and memory grow with the width and
    the outline of a mask, not with its area or the frame's.

    Args:
        windows: the masks, all on one grid.
        rows: where the pixel rows lie on the grid.
        columns: where the pixel columns lie on the grid.
        height: of the frame, pixels.
        threshold: at least 0; a pixel belongs to a mask when its probability is above.

    Returns:
        The runs of each mask.
    """
    threshold = float(np.float32(threshold))
    bounds = np.array([(window.left - 1, window.left + window.probs.shape[1]) for window in windows]).reshape(-1, 2)
    begins = np.searchsorted(columns.positions, bounds[:, 0], side="right").tolist()
    ends = np.searchsorted(columns.positions, bounds[:, 1]).tolist()
    left_cell = np.floor(columns.positions).astype(np.int64)
    right_share = (columns.positions - left_cell).astype(np.float32)[:, None]
    left_share = 1 - right_share
    pixel_columns, knots, below, above, counts = [], [], [], [], []
    for (top, left, probs), begin, end in zip(windows, begins, ends, strict=True):
        # Columns first, and a ring of the zeros that surround the window.
        cells = np.zeros((probs.shape[1] + 2, probs.shape[0] + 2), dtype=np.float32)
        cells[1:-1, 1:-1] = probs.T
        cell = left_cell[begin:end] - (left - 1)
        with np.errstate(invalid="ignore"):  # of a network that diverged
            wide = cells[cell] * left_share[begin:end] + cells[cell + 1] * right_share[begin:end]
        inside = wide > threshold
        changes = np.flatnonzero(inside[:, 1:] != inside[:, :-1])
        column, knot = np.divmod(changes, wide.shape[1] - 1)
        values, at = wide.ravel(), changes + column
        below.append(values[at])
        above.append(values[at + 1])
        pixel_columns.append(column + (columns.first + begin))
        knots.append(knot + (top - 1))
        counts.append(len(changes))
    if not counts:
        return []
    low, high = np.concatenate(below).astype(np.float64), np.concatenate(above)
    with np.errstate(invalid="ignore"):
        crossing = np.concatenate(knots) + np.fmin(np.fmax((threshold - low) / (high - low), 0), 1)
    rising = high > threshold
    # The first pixel above the threshold where it rises, the first that is not above where it falls.
    row = _first_at_least(rows.positions, np.where(rising, np.nextafter(crossing, np.inf), crossing))
    turns = np.concatenate(pixel_columns) * height + (row + rows.first)
    # All masks one after another, as if each began where the frame of the one before has ended.
    span = (columns.first + len(columns.positions)) * height + 1
    numbers = np.arange(len(windows))
    turns = np.maximum.accumulate(turns + np.repeat(span * numbers, counts))
    # Where turns meet there is no pixel between them: an even number of them changes nothing.
    starts = np.flatnonzero(np.diff(turns, prepend=-1))
    odd = np.diff(starts, append=len(turns)) % 2 == 1
    turns = turns[starts[odd]]
    return [part.reshape(-1, 2) for part in np.split(turns % span, np.searchsorted(turns, span * numbers[1:]))]


def _first_at_least(positions: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """`np.searchsorted` where most positions are evenly spaced: guess, check, search the rest."""
    low, high = len(positions) // 4, len(positions) * 3 // 4
    extent = float(positions[high] - positions[low]) if high > low else 0.0
    if extent <= 0:
        return np.searchsorted(positions, values).astype(np.int64)
    guess = np.ceil((values - float(positions[low])) * ((high - low) / extent) + low)
    place = guess.clip(0, len(positions)).astype(np.int64)
    framed = np.concatenate([[-np.inf], positions, [np.inf]])
    wrong = np.flatnonzero((framed[place] >= values) | (framed[place + 1] < values))
    place[wrong] = np.searchsorted(positions, values[wrong])
    return place


def _integer_line(low: np.float32, high: np.float32, cells: int, pixels: int) -> PixelLine:
    half = np.float32(0.5)
    centre, reach = (high + low) * half, (high - low) * half * np.float32((cells + 2) / cells)
    # To whole pixels by cutting towards zero, then both ends count.
    first, last = int(centre - reach), int(centre + reach)
    begin, end = min(max(first, 0), pixels), max(min(last + 1, pixels), 0)
    scale = np.float32(cells + 2) / np.float32(max(last - first + 1, 1))
    positions = (np.arange(begin - first, end - first, dtype=np.float32) + half) * scale - half
    return PixelLine(begin, positions.clip(0, cells + 1) - 1)


def _continuous_line(low: np.float32, high: np.float32, cells: int, pixels: int) -> PixelLine:
    begin, end = min(max(math.floor(low) - 1, 0), pixels), max(min(math.ceil(high) + 1, pixels), 0)
    centres = np.arange(begin, end, dtype=np.float32) + np.float32(0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = (centres - low) / (high - low) * np.float32(2) - np.float32(1)
    # A box without a side has no inside; its published masks show the middle of the mask grid.
    relative = np.nan_to_num(relative, nan=0, posinf=0, neginf=0)
    positions = ((relative + np.float32(1)) * np.float32(cells) - np.float32(1)) / np.float32(2)
    return PixelLine(begin, positions.clip(-1, cells))


def _pixels_line(low: np.float32, high: np.float32, cells: int, pixels: int) -> PixelLine:
    if not (np.isfinite(low) and np.isfinite(high)):
        low = high = np.float32(0)
    first, last = round(float(low)), round(float(high))
    begin, end = min(max(first, 0), pixels), max(min(last, pixels), 0)
    scale = np.float32(cells) / np.float32(max(last - first, 1))
    positions = (np.arange(begin - first, end - first, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    return PixelLine(begin, positions.clip(0, cells - 1))


_LINES: dict[MaskPaste, Callable[[np.float32, np.float32, int, int], PixelLine]] = {
    "integer": _integer_line,
    "continuous": _continuous_line,
    "pixels": _pixels_line,
}
