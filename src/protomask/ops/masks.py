"""Masks on plain tensors: assembly from prototypes, crop, resize, run-length codes, polygons, overlaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from protomask.errors import DataError

Runs = npt.NDArray[np.int64]
"""(K, 2): where each run of a mask's pixels begins and ends (exclusive). Pixels are counted down the columns of the
frame, one column after another; runs ascend and do not touch each other."""


class Rle(TypedDict):
    """COCO run-length code of one mask: column-major runs, background first, as a compressed string."""

    size: list[int]
    counts: str


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask, bounded by pixel edges.

    `exterior` is (K, 2), x then y, in pixels of the mask's frame: the first pixel covers [0, 1) x [0, 1), so a mask of
    width W reaches x = W. Clockwise as seen on a screen (y down), not closed (the first vertex is not repeated).
    `holes` are rings of the same kind, counter-clockwise.
    """

    exterior: npt.NDArray[Any]
    holes: tuple[npt.NDArray[Any], ...] = ()


class MaskWindow(NamedTuple):
    """The part of a frame that a mask occupies: `mask` (h, w) bool on the CPU, its first pixel in (row `top`, column
    `left`). The window is tight; that of an empty mask has no pixel.
    """

    top: int
    left: int
    mask: Tensor


class GridWindow(NamedTuple):
    """Mask probabilities on a part of a grid: `probs` (h, w) float32, its first cell in (row `top`, column `left`). On
    all other cells they are zero.
    """

    top: int
    left: int
    probs: npt.NDArray[np.float32]


class PixelLine(NamedTuple):
    """Where the centres of consecutive pixels lie on one axis of a grid.

    The first pixel is number `first` of its frame; `positions` (P,) float32 count in grid cells, whole numbers being
    the centres of cells, and never fall.
    """

    first: int
    positions: npt.NDArray[np.float32]


def assemble_masks(prototypes: Tensor, mask_coefficients: Tensor) -> Tensor:
    """Linear combination of prototypes, YOLACT eq. 1: M = sigmoid(P C^T).

    Args:
        prototypes: (h, w, k) float, prototype grid.
        mask_coefficients: (N, k) float, one row per instance.

    Returns:
        (N, h, w) float in 0..1, prototype grid.
    """
    height, width, count = prototypes.shape
    logits = mask_coefficients @ prototypes.reshape(height * width, count).t()
    return logits.view(-1, height, width).sigmoid()


def sanitize_boxes(boxes: Tensor, size: tuple[int, int], *, padding: int = 0, truncate: bool = False) -> Tensor:
    """Relative boxes to pixels the way the official YOLACT code does it.

    Corners are multiplied by the size, truncated if asked, swapped where reversed, padded, and clamped on one side
    each: left and top from below at 0, right and bottom from above at the size. A box wholly outside the frame
    therefore stays outside (left > right = width, or right < left = 0).

    Args:
        boxes: (N, 4) float xyxy, relative to the frame (0..1 inside it).
        size: (H, W) of the frame in pixels.
        padding: pixels added on each side.
        truncate: drop the fraction (towards zero), before padding.

    Returns:
        (N, 4) xyxy px; int64 if `truncate`, else the dtype of `boxes`.
    """
    height, width = size
    corners = boxes * boxes.new_tensor([width, height, width, height])
    if truncate:
        corners = corners.long()
    top_left = (torch.minimum(corners[:, :2], corners[:, 2:]) - padding).clamp(min=0)
    bottom_right = torch.maximum(corners[:, :2], corners[:, 2:]) + padding
    bottom_right = torch.minimum(bottom_right, bottom_right.new_tensor([width, height]))
    return torch.cat([top_left, bottom_right], dim=1)


def crop_windows(boxes: Tensor, size: tuple[int, int], *, padding: int = 1) -> Tensor:
    """Which grid cells lie inside each box.

    A column is inside when left <= index < right with the unrounded bounds of `sanitize_boxes`; rows likewise. Reversed
    corners are swapped.

    Args:
        boxes: (N, 4) float xyxy, relative to the frame the grid covers (0..1 inside it).
        size: (h, w) of the grid.
        padding: grid cells kept around each box.

    Returns:
        (N, h, w) bool.
    """
    height, width = size
    left, top, right, bottom = sanitize_boxes(boxes, size, padding=padding)[:, :, None].unbind(1)
    columns = torch.arange(width, device=boxes.device, dtype=boxes.dtype)
    rows = torch.arange(height, device=boxes.device, dtype=boxes.dtype)
    inside_columns = (columns >= left) & (columns < right)
    inside_rows = (rows >= top) & (rows < bottom)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def crop_masks(masks: Tensor, boxes: Tensor, *, padding: int = 1) -> Tensor:
    """Set masks to zero outside their boxes, see `crop_windows`. Differentiable in `masks`.

    Args:
        masks: (N, h, w) float, any grid.
        boxes: (N, 4) float xyxy, relative to the frame the grid covers (0..1 inside it).
        padding: grid cells kept around each box.

    Returns:
        (N, h, w), dtype of `masks`.
    """
    _, height, width = masks.shape
    return masks * crop_windows(boxes, (height, width), padding=padding)


def assemble_windows(
    prototypes: Tensor, mask_coefficients: Tensor, boxes: Tensor, *, padding: int = 1
) -> list[GridWindow]:
    """`assemble_masks` and `crop_masks` in one, computed inside the boxes alone.

    Args:
        prototypes: (h, w, k) float32, prototype grid, CPU.
        mask_coefficients: (N, k) float32, CPU.
        boxes: (N, 4) float xyxy, relative to the frame the grid covers, CPU.
        padding: grid cells kept around each box.

    Returns:
        N windows of probabilities in 0..1.
    """
    height, width, count = prototypes.shape
    # A cell is inside when left <= index < right, so both bounds are rounded up.
    bounds = sanitize_boxes(boxes, (height, width), padding=padding).ceil()
    bounds = torch.minimum(bounds, bounds.new_tensor([width, height, width, height])).clamp_(min=0).long()
    grid, weights = prototypes.detach().contiguous().numpy(), mask_coefficients.detach().numpy()
    places = [(left, top, max(left, right), max(top, bottom)) for left, top, right, bottom in bounds.tolist()]
    ends = np.cumsum([0] + [(right - left) * (bottom - top) for left, top, right, bottom in places]).tolist()
    cells = np.empty(ends[-1], dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # of a network that diverged
        for (left, top, right, bottom), weight, start, end in zip(places, weights, ends[:-1], ends[1:], strict=True):
            np.dot(grid[top:bottom, left:right].reshape(-1, count), weight, out=cells[start:end])
    torch.from_numpy(cells).sigmoid_()
    return [
        GridWindow(top, left, cells[start:end].reshape(bottom - top, right - left))
        for (left, top, right, bottom), start, end in zip(places, ends[:-1], ends[1:], strict=True)
    ]


def cut_windows(mask_probs: Tensor, *, threshold: float = 0.5) -> list[GridWindow]:
    """The parts of dense masks that decide which pixels are above a threshold after bilinear interpolation.

    Args:
        mask_probs: (N, h, w) float, any device.
        threshold: at least 0.

    Returns:
        N windows: the cells above the threshold and one more on each side, copied.
    """
    _, height, width = mask_probs.shape
    boxes = box_of_masks(mask_probs > threshold).long().tolist()
    dense = mask_probs.detach().cpu().float().numpy()
    windows = []
    for probs, (left, top, right, bottom) in zip(dense, boxes, strict=True):
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
    box: tuple[float, float, float, float], cells: int, size: tuple[int, int], *, continuous: bool
) -> tuple[PixelLine, PixelLine]:
    """The rows and the columns of an image that the mask of a region of interest can reach (Mask R-CNN, section 3.1).

    Args:
        box: xyxy, px of the image; it may reach outside.
        cells: the mask has `cells` x `cells` on the grid of the box.
        size: (H, W) of the image.
        continuous: sample at the centres of the pixels with the box as it is; otherwise resize to a box of whole
            pixels, one mask cell larger on each side.
    """
    line = _continuous_line if continuous else _integer_line
    corners = torch.tensor(box, dtype=torch.float32).numpy()
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


def box_of_masks(masks: Tensor) -> Tensor:
    """Tight boxes of masks.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) float32 xyxy px, right and bottom edges exclusive (a one-pixel mask has a 1 x 1 box); zeros for an empty
        mask.
    """
    count, height, width = masks.shape
    if masks.numel() == 0:
        return torch.zeros((count, 4), device=masks.device)
    # amax of bytes is several times faster than any() of bools.
    dense = masks.to(torch.bool).view(torch.uint8)
    columns, rows = dense.amax(dim=1), dense.amax(dim=2)
    # argmax gives the first maximum: the first occupied line, or counted from the far end the last one.
    edges = [
        columns.argmax(dim=1),
        rows.argmax(dim=1),
        width - columns.flip(1).argmax(dim=1),
        height - rows.flip(1).argmax(dim=1),
    ]
    return torch.stack(edges, dim=1).float() * columns.any(dim=1, keepdim=True)


def mask_iou(a: Tensor, b: Tensor, is_crowd: Tensor | None = None) -> Tensor:
    """Overlap of every mask of `a` with every mask of `b`.

    Args:
        a: (N, ...) bool or 0/1, the predictions.
        b: (M, ...) bool or 0/1, same trailing shape, the truths.
        is_crowd: (M,) bool; against a crowd the intersection is divided by the area of `a` alone (COCO convention).

    Returns:
        (N, M) float32 in 0..1; 0 where the denominator is 0.
    """
    flat_a = a.reshape(a.shape[0], -1) if a.numel() else a.new_zeros((a.shape[0], 1))
    flat_b = b.reshape(b.shape[0], -1) if b.numel() else b.new_zeros((b.shape[0], flat_a.shape[1]))
    if flat_a.shape[1] != flat_b.shape[1]:
        flat_a = flat_a.new_zeros((flat_a.shape[0], flat_b.shape[1]))
    flat_a, flat_b = flat_a.float(), flat_b.float()
    intersection = flat_a @ flat_b.t()
    area_a = flat_a.sum(dim=1)[:, None]
    denominator = area_a + flat_b.sum(dim=1) - intersection
    if is_crowd is not None:
        denominator = torch.where(is_crowd.to(denominator.device)[None], area_a, denominator)
    return intersection / denominator.clamp(min=1)


def mask_runs(mask: Tensor | npt.NDArray[np.bool_]) -> Runs:
    """Runs of an (H, W) bool (or 0/1) mask, any device."""
    array = mask.to(device="cpu", dtype=torch.bool).numpy() if isinstance(mask, Tensor) else mask
    return _turns(array.view(np.uint8)).reshape(-1, 2)


def rectangle_runs(box: tuple[int, int, int, int], height: int) -> Runs:
    """The mask of all pixels of a rectangle (x1, y1, x2, y2), px, in a frame of that height."""
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return np.zeros((0, 2), dtype=np.int64)
    if y2 - y1 == height:
        return np.array([[x1 * height, x2 * height]])
    columns = np.arange(x1, x2, dtype=np.int64) * height
    return np.stack([columns + y1, columns + y2], axis=1)


def move_runs(runs: Runs, height: int, *, left: int, top: int, frame_height: int) -> Runs:
    """A mask of a part of a frame in the whole frame.

    Args:
        runs: in the part.
        height: of the part, pixels.
        left: column of the frame in which the part begins.
        top: row of the frame in which the part begins.
        frame_height: of the frame, pixels.

    Returns:
        The runs of the same pixels in the frame.
    """
    if height == frame_height:
        return runs + left * height
    first, last = runs[:, 0] // height, (runs[:, 1] - 1) // height
    # A run that goes on in the next column of the part is interrupted in the frame.
    own, column = _ranges(first, last - first + 1)
    begin = np.maximum(runs[own, 0] - column * height, 0)
    end = np.minimum(runs[own, 1] - column * height, height)
    return np.stack([begin, end], axis=1) + ((column + left) * frame_height + top)[:, None]


def intersect_runs(first: Runs, second: Runs) -> Runs:
    """Pixels of both masks; all in one frame."""
    # The runs of the second that each run of the first meets are consecutive.
    begin = np.searchsorted(second[:, 1], first[:, 0], side="right")
    own, other = _ranges(begin, np.searchsorted(second[:, 0], first[:, 1]) - begin)
    return np.stack([np.maximum(first[own, 0], second[other, 0]), np.minimum(first[own, 1], second[other, 1])], axis=1)


def unite_runs(masks: Sequence[Runs]) -> Runs:
    """Pixels of any of the masks; all in one frame."""
    runs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *masks])
    runs = runs[np.argsort(runs[:, 0])]
    reached = np.maximum.accumulate(runs[:, 1])
    starts = np.flatnonzero(runs[:, 0] > np.concatenate([[-1], reached[:-1]])[: len(runs)])
    return np.stack([runs[starts, 0], reached[np.append(starts, len(runs))[1:] - 1]], axis=1)


def runs_area(runs: Runs) -> int:
    """Number of pixels of a mask."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def runs_to_window(runs: Runs, height: int) -> MaskWindow:
    """The pixels of a mask from its runs in a frame of that height."""
    if len(runs) == 0:
        return MaskWindow(0, 0, torch.zeros(0, 0, dtype=torch.bool))
    column, begin = np.divmod(runs[:, 0], height)
    last_column, end = np.divmod(runs[:, 1] - 1, height)
    if (column != last_column).any():  # a run that goes on in the next column
        top, bottom = 0, height
    else:
        top, bottom = int(begin.min()), int(end.max()) + 1
    left, right = int(column[0]), int(last_column[-1]) + 1
    side = bottom - top
    turns = np.stack([(column - left) * side + begin - top, (last_column - left) * side + end - top + 1], axis=1)
    lengths = np.diff(turns.ravel(), prepend=0, append=(right - left) * side)
    values = np.zeros(len(lengths), dtype=np.bool_)
    values[1::2] = True
    columns_first = np.repeat(values, lengths).reshape(right - left, side)
    return MaskWindow(top, left, torch.from_numpy(np.ascontiguousarray(columns_first.T)))


def encode_runs(runs: Sequence[Runs], size: tuple[int, int]) -> list[Rle]:
    """COCO compressed run-length codes, byte for byte those of the COCO API, of masks in a frame `size` = (H, W)."""
    if not runs:
        return []
    end = np.array([size[0] * size[1]])
    counts = np.array([2 * len(mask) + 1 for mask in runs])
    turns = np.concatenate([part for mask in runs for part in (mask.ravel(), end)])
    last = np.cumsum(counts) - 1
    lengths = np.diff(turns, prepend=0)
    lengths[last[:-1] + 1] = turns[last[:-1] + 1]
    # A code ends with the mask where no background follows it.
    complete = (lengths[last] == 0) & (counts > 1)
    lengths = np.delete(lengths, last[complete])
    counts -= complete
    first = np.cumsum(counts) - counts
    characters, per_run = _runs_to_characters(lengths, np.repeat(first, counts))
    text = characters.tobytes().decode("ascii")
    ends = np.cumsum(np.add.reduceat(per_run, first)).tolist()
    starts = [0, *ends[:-1]]
    return [{"size": list(size), "counts": text[start:end]} for start, end in zip(starts, ends, strict=True)]


def encode_rle(masks: Tensor) -> list[Rle]:
    """COCO compressed run-length codes, byte for byte those of the COCO API.

    Args:
        masks: (N, H, W) bool (or 0/1), any device.

    Returns:
        N dicts with `size` [H, W] and `counts` (ASCII string), ready for JSON.
    """
    return encode_runs([mask_runs(mask) for mask in masks.cpu()], (masks.shape[1], masks.shape[2]))


def decode_rle(rle: Mapping[str, Any]) -> Tensor:
    """Mask of a COCO run-length code.

    Args:
        rle: `size` [H, W] and `counts`, either compressed (str or bytes) or a list of run lengths.

    Returns:
        (H, W) bool on the CPU.

    Raises:
        DataError: the code is malformed or its runs do not add up to H * W.
    """
    (height, width), runs = _parse_rle(rle)
    values = (np.arange(len(runs)) & 1).astype(np.bool_)
    flat = np.repeat(values, runs)
    return torch.from_numpy(np.ascontiguousarray(flat.reshape(width, height).T))


def rle_area(rle: Mapping[str, Any]) -> int:
    """Number of foreground pixels of a COCO run-length code (compressed or not), without decoding the mask.

    Raises:
        DataError: as `decode_rle`.
    """
    _, runs = _parse_rle(rle)
    return int(runs[1::2].sum())


def mask_to_polygons(mask: Tensor | npt.NDArray[np.bool_], *, offset: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """Exact outlines of a mask along pixel edges; `polygons_to_mask` gives the mask back, pixel for pixel.

    Parts are 4-connected: pixels that touch by a corner only are separate polygons. An island within a hole is a
    polygon of its own. No ring crosses or touches itself, so every polygon is valid for GIS tools. Only corner
    vertices are kept, as int32.

    Args:
        mask: (H, W) bool, tensor or array.
        offset: (x, y) of the first pixel in the frame of the result.

    Returns:
        The polygons, ordered by their topmost-leftmost vertex; [] for an empty mask.
    """
    array = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    array = array.astype(np.bool_, copy=False)
    occupied_rows = np.flatnonzero(array.any(axis=1))
    if occupied_rows.size == 0:
        return []
    top, bottom = int(occupied_rows[0]), int(occupied_rows[-1]) + 1
    occupied_columns = np.flatnonzero(array[top:bottom].any(axis=0))
    left, right = int(occupied_columns[0]), int(occupied_columns[-1]) + 1
    rings, owners = _trace_rings(np.pad(array[top:bottom, left:right], 1))
    corner = np.array([left + offset[0], top + offset[1]], dtype=np.int32)
    holes: dict[int, list[npt.NDArray[np.int32]]] = {}
    for index, owner in enumerate(owners):
        if owner == index:
            holes[index] = []
        else:
            holes[owner].append(rings[index] + corner)
    return [Polygon(rings[index] + corner, tuple(own)) for index, own in holes.items()]


def polygons_to_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> Tensor:
    """Rasterise polygons: a pixel is set when its centre lies in some exterior and not in a hole of that polygon.

    Rings must not cross themselves; vertices may have fractions, either direction is accepted, and what lies outside
    the frame is cut off.

    Args:
        polygons: parts of one mask, px.
        size: (H, W) of the frame.

    Returns:
        (H, W) bool on the CPU.
    """
    height, width = size
    # Winding numbers: +1 inside an exterior, -1 inside a hole, so the sum is positive on the union of the parts.
    winding = np.zeros((height, width + 1), dtype=np.int32)
    starts: list[npt.NDArray[np.float64]] = []
    ends: list[npt.NDArray[np.float64]] = []
    for polygon in polygons:
        for ring, sign in ((polygon.exterior, 1), *((hole, -1) for hole in polygon.holes)):
            vertices = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
            following = np.roll(vertices, -1, axis=0)
            area = vertices[:, 0] @ following[:, 1] - vertices[:, 1] @ following[:, 0]
            forward = (area > 0) == (sign > 0)
            starts.append(vertices if forward else following)
            ends.append(following if forward else vertices)
    if not starts:
        return torch.zeros(size, dtype=torch.bool)
    start, end = np.concatenate(starts), np.concatenate(ends)
    # Rows whose centre line y + 0.5 an edge crosses: [ceil(y0 - 0.5), ceil(y1 - 0.5)).
    first_row = np.clip(np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5), 0, height).astype(np.int64)
    last_row = np.clip(np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5), 0, height).astype(np.int64)
    edge, rows = _ranges(first_row, last_row - first_row)
    start, end = start[edge], end[edge]
    along = (rows + 0.5 - start[:, 1]) / (end[:, 1] - start[:, 1])
    crossing = start[:, 0] + along * (end[:, 0] - start[:, 0])
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    # With a clockwise ring (y down) the inside is to the right of edges that go up.
    np.add.at(winding, (rows, columns), np.where(end[:, 1] < start[:, 1], 1, -1))
    return torch.from_numpy(np.cumsum(winding, axis=1)[:, :width] > 0)


def _ranges(
    first: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The numbers of several ranges, one range after another, and before them which range each is of."""
    owner = np.repeat(np.arange(len(first)), lengths)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)


def _first_at_least(positions: npt.NDArray[np.float32], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
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


def _turns(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Column-major places of an (H, W) 0/1 mask where it begins and ends in turn."""
    height, width = mask.shape
    if mask.size == 0:
        return np.zeros(0, dtype=np.int64)
    # Changes are looked for in memory order, which is far cheaper than transposing; only the few found are sorted.
    # Looking at eight pixels at a time skips the empty space.
    inner = (height - 1) * width
    changes = np.zeros((inner + 7) // 8 * 8, dtype=np.uint8)
    np.bitwise_xor(mask[1:], mask[:-1], out=changes[:inner].reshape(height - 1, width))
    words = np.flatnonzero(changes.view(np.uint64) != 0)
    word, byte = np.nonzero(changes.reshape(-1, 8)[words])
    rows, columns = np.divmod(words[word] * 8 + byte, width)
    heads = np.flatnonzero(mask[0, 1:] != mask[-1, :-1]) + 1
    positions = np.concatenate([columns * height + rows + 1, heads * height])
    positions.sort()
    return np.concatenate([[0] * int(mask[0, 0]), positions, [mask.size] * int(mask[-1, -1])]).astype(np.int64)


def _runs_to_characters(
    runs: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Characters of concatenated codes and how many each run takes; `first` is where the code of each run begins.

    From its fourth run on a code stores differences to the run two before. Numbers are written five bits at a time, low
    bits first, with bit 5 as "more follows" and bit 4 of the last group as sign, offset by 48.
    """
    values = runs.copy()
    later = np.flatnonzero(np.arange(len(runs)) - first > 2)
    values[later] -= runs[later - 2]
    # A group of n digits holds a signed number of 5 n bits.
    magnitude = np.where(values < 0, ~values, values)
    per_run = np.ones(len(values), dtype=np.int64)
    limit = 16
    while (larger := magnitude >= limit).any():
        per_run += larger
        limit <<= 5
    place = np.cumsum(per_run) - per_run
    characters = np.empty(per_run.sum(), dtype=np.uint8)
    left = per_run - 1
    while len(place):
        more = left > 0
        characters[place] = (values & 31) + 32 * more + 48
        values, place, left = values[more] >> 5, place[more] + 1, left[more] - 1
    return characters, per_run


def _characters_to_runs(counts: bytes) -> npt.NDArray[np.int64]:
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if digits.size == 0:
        return digits
    if digits.min() < 0 or digits.max() > 63:
        wrong = int(np.flatnonzero((digits < 0) | (digits > 63))[0])
        raise DataError(f"RLE counts: expected characters '0' to 'o', got {chr(counts[wrong])!r} at position {wrong}")
    last = np.flatnonzero(digits < 32)
    if last.size == 0 or last[-1] != digits.size - 1:
        raise DataError("RLE counts: expected a complete last number, but the string stops in the middle of one")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 7:
        raise DataError(f"RLE counts: expected numbers of at most 7 characters, got one of {lengths.max()}")
    place = np.arange(digits.size) - np.repeat(first, lengths)
    values = np.add.reduceat((digits & 31) << (5 * place), first)
    values -= np.where(digits[last] & 16, 1 << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _parse_rle(rle: Mapping[str, Any]) -> tuple[tuple[int, int], npt.NDArray[np.int64]]:
    """Frame size (H, W) and validated run lengths."""
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        got = sorted(map(str, rle)) if isinstance(rle, Mapping) else type(rle).__name__
        raise DataError(f"RLE: expected a mapping with 'size' and 'counts', got {got}")
    size, counts = rle["size"], rle["counts"]
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError) as error:
        raise DataError(f"RLE size: expected [height, width], got {size!r}") from error
    if height < 0 or width < 0:
        raise DataError(f"RLE size: expected [height, width] of at least 0, got {size!r}")
    if isinstance(counts, str):
        try:
            runs = _characters_to_runs(counts.encode("ascii"))
        except UnicodeEncodeError as error:
            raise DataError(f"RLE counts: expected ASCII, got {counts[error.start]!r}") from error
    elif isinstance(counts, bytes):
        runs = _characters_to_runs(counts)
    else:
        try:
            numbers = np.asarray(counts)
        except ValueError as error:
            raise DataError("RLE counts: expected a flat list of integers, got nested lists") from error
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DataError(f"RLE counts: expected str, bytes or a list of integers, got {type(counts).__name__}")
        runs = numbers.astype(np.int64)
    if runs.size and runs.min() < 0:
        raise DataError(f"RLE counts: expected run lengths of at least 0, got {int(runs.min())}")
    if runs.size and runs.max() > height * width:
        raise DataError(f"RLE counts: expected runs within {height} x {width} pixels, got one of {int(runs.max())}")
    if (total := int(runs.sum())) != height * width:
        raise DataError(f"RLE counts: expected {height} x {width} = {height * width} pixels in total, got {total}")
    return (height, width), runs


def _trace_rings(padded: npt.NDArray[np.bool_]) -> tuple[list[npt.NDArray[np.int32]], list[int]]:
    """Boundary rings of a mask with a background border of one pixel, and for each ring the index of its exterior.

    Every boundary vertex where the outline turns ends one horizontal and one vertical segment; where two pixels touch
    by a corner the vertex counts twice. In row order consecutive vertices are the ends of horizontal segments, in
    column order of vertical ones, so a sort replaces the search for neighbours. Rings come in the raster order of
    their first vertex; an exterior is its own owner.
    """
    across = padded[:, :-1] ^ padded[:, 1:]
    both = across[:-1] & across[1:]
    diagonal = both & (padded[:-1, :-1] ^ padded[1:, :-1])
    turning = np.flatnonzero((across[:-1] ^ across[1:]) | diagonal)
    stride = across.shape[1]
    is_double = diagonal.ravel()[turning]
    flat = np.repeat(turning, 1 + is_double)
    rows, columns = np.divmod(flat, stride)
    below_right = padded[rows + 1, columns + 1]

    # The first copy of a double vertex ends the segment to its left, the second the one to its right. The upper segment
    # goes with the pixel above: with the first copy if that pixel is on the left, with the second otherwise.
    first_copy = np.flatnonzero(is_double) + np.arange(np.count_nonzero(is_double))
    copy = np.zeros(len(flat), dtype=np.int64)
    copy[first_copy + 1] = 1
    swapped = np.zeros(len(flat), dtype=np.bool_)
    swapped[first_copy] = swapped[first_copy + 1] = ~below_right[first_copy]
    height = padded.shape[0]
    order = np.argsort((columns * height + rows) * 2 + (copy ^ swapped))
    upper, lower = order[0::2], order[1::2]
    vertical = np.empty_like(order)
    vertical[upper], vertical[lower] = lower, upper

    # Keep the foreground on the right hand: top edges run rightwards, bottom edges leftwards.
    index = np.arange(len(flat))
    runs_right = below_right[index & ~1]
    following = np.where(runs_right ^ (index & 1).astype(np.bool_), index ^ 1, vertical)
    sequence, sizes, ring_of = _cycles(following)
    touching = first_copy[ring_of[first_copy] == ring_of[first_copy + 1]]
    if touching.size:
        # A ring that meets itself in a vertex is cut there into an outline and holes.
        following[touching], following[touching + 1] = following[touching + 1], following[touching]
        sequence, sizes, ring_of = _cycles(following)

    ends = np.cumsum(sizes)
    start = sequence[ends - sizes]
    vertices = np.stack([columns, rows], axis=1).astype(np.int32)[sequence]
    rings = np.split(vertices, ends[:-1])

    # Left of a hole's first vertex lies a run of the part that owns it; the ring at the run's other end tells which.
    owners = list(range(len(rings)))
    holes = np.flatnonzero(~below_right[start])
    edges = np.flatnonzero(across)
    run_end = np.searchsorted(edges, (rows[start[holes]] + 1) * stride + columns[start[holes]])
    edge_rows, edge_columns = np.divmod(edges[run_end - 1], stride)
    segment_keys = columns[upper] * height + rows[upper]
    segment = np.searchsorted(segment_keys, edge_columns * height + edge_rows - 1, side="right") - 1
    for hole, neighbour in zip(holes.tolist(), ring_of[upper[segment]].tolist(), strict=True):
        owners[hole] = owners[neighbour]
    return rings, owners


def _cycles(
    following: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cycles of a permutation: elements one cycle after another, cycle sizes, and the cycle of each element."""
    successor = following.tolist()
    cycle_of = [-1] * len(successor)
    sequence: list[int] = []
    sizes: list[int] = []
    for begin in range(len(successor)):
        if cycle_of[begin] >= 0:
            continue
        before = len(sequence)
        element = begin
        while cycle_of[element] < 0:
            cycle_of[element] = len(sizes)
            sequence.append(element)
            element = successor[element]
        sizes.append(len(sequence) - before)
    return np.array(sequence, dtype=np.int64), np.array(sizes, dtype=np.int64), np.array(cycle_of, dtype=np.int64)
