"""What prototypes respond to, and how masks come from them; plain NumPy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.explaining.results import Floats, PrototypeFacts, PrototypeKind, PrototypeSum

LEAST_CORRELATION = 0.3
"""A prototype whose measures all stay below responds to a mixture that has no name."""
_SILENT = 1e-3  # share of the largest deviation below which a prototype is flat


def measure_prototypes(
    prototypes: Floats, objects: NDArray[np.bool_] | None, use: NDArray[np.floating]
) -> list[PrototypeFacts]:
    """Name each prototype after what it correlates with over the cells of its grid.

    * position: the multiple correlation with column and row;
    * outline: the correlation with a band of cells along the edges of the objects;
    * foreground, background: the correlation with the inside of the objects, positive or negative.

    The largest of these names the prototype. It is "mixed" where the largest stays below ``LEAST_CORRELATION``, and
    "nothing" where the prototype is flat.

    Args:
        prototypes: (h, w, k).
        objects: (N, h, w) masks on the same grid; None or N = 0 where there are none.
        use: (k,) share of what the prototypes add to the masks.

    Returns:
        k facts, the most used first.

    """
    height, width, count = prototypes.shape
    cells = prototypes.reshape(-1, count).astype(np.float64)
    deviations = cells.std(axis=0)
    silent = deviations <= _SILENT * max(float(deviations.max(initial=0.0)), 1e-12)
    position = position_correlation(prototypes)
    has_objects = objects is not None and bool(objects.any())
    inside = objects.any(axis=0) if objects is not None and has_objects else np.zeros((height, width), dtype=np.bool_)
    band = outline_band(objects) if objects is not None and has_objects else inside
    foreground, outline = (_correlation(cells, field.ravel()) for field in (inside, band))
    facts = []
    for number in np.argsort(-use, kind="stable").tolist():
        measures: dict[PrototypeKind, float] = {"position": float(position[number])}
        if has_objects:
            measures["outline"] = float(outline[number])
            measures["foreground"] = float(foreground[number])
            measures["background"] = -float(foreground[number])
        kind = max(measures, key=lambda name: measures[name])
        if measures[kind] < LEAST_CORRELATION:
            kind = "mixed"
        facts.append(
            PrototypeFacts(
                number=number,
                kind="nothing" if silent[number] else kind,
                use=float(use[number]),
                position=measures["position"],
                outline=measures.get("outline"),
                foreground=measures.get("foreground"),
            )
        )
    return facts


def position_correlation(maps: Floats) -> NDArray[np.float64]:
    """(k,) multiple correlation of (h, w, k) maps with the column and the row, in [0, 1]; 0 for flat maps."""
    height, width, count = maps.shape
    rows, columns = np.mgrid[0:height, 0:width].reshape(2, -1).astype(np.float64)
    values = maps.reshape(-1, count).astype(np.float64)
    values = values - values.mean(axis=0)
    places = np.stack([rows - rows.mean(), columns - columns.mean()], axis=1)
    # Rows and columns of a grid are not correlated, so their shares of the variance add up.
    covered = sum((place @ values) ** 2 / max(float(place @ place), 1e-12) for place in places.T)
    total = (values**2).sum(axis=0)
    share = np.divide(covered, total, out=np.zeros(count), where=total > 1e-12 * len(values))
    result: NDArray[np.float64] = np.sqrt(share.clip(0, 1))
    return result


def outline_band(objects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) cells on either side of the edge of any of (N, h, w) objects; the edge of the frame does not count."""
    padded = np.pad(objects, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = objects.shape[1:]
    shifted = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    edges = np.logical_or.reduce(shifted) & ~np.logical_and.reduce(shifted)
    band: NDArray[np.bool_] = edges.any(axis=0)
    return band


def _correlation(cells: NDArray[np.float64], field: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(k,) correlation of (L, k) values with (L,) truth values; 0 where one of them is flat."""
    values, wanted = cells - cells.mean(axis=0), field - field.mean()
    norm = np.sqrt((values**2).sum(axis=0) * (wanted**2).sum())
    result: NDArray[np.float64] = np.divide(wanted @ values, norm, out=np.zeros(cells.shape[1]), where=norm > 1e-9)
    return result


def on_grid(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(N, h, w) cells of which (H, W) masks cover half or more."""
    height, width = size
    grids = [
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)) >= 128
        for mask in masks
    ]
    return np.array(grids, dtype=np.bool_).reshape(-1, height, width)


def share_of_use(prototypes: Floats, coefficients: Floats, windows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(k,) share of each prototype in what all add to N masks within their boxes; of its activity where N = 0.

    Args:
        prototypes: (h, w, k).
        coefficients: (N, k).
        windows: (N, h, w) cells of the boxes.

    """
    added = np.zeros(prototypes.shape[2])
    for weights, window in zip(coefficients, windows, strict=True):
        if window.any():
            added += np.abs(weights) * np.abs(prototypes[window]).mean(axis=0)
    if not len(coefficients):
        added = np.abs(prototypes).mean(axis=(0, 1)).astype(np.float64)
    total = float(added.sum())
    share: NDArray[np.float64] = added / total if total > 0 else added
    return share


def sum_prototypes(
    prototypes: Floats, coefficients: Floats, window: NDArray[np.bool_], image_size: tuple[int, int]
) -> PrototypeSum:
    """Take the mask of one instance apart.

    Args:
        prototypes: (h, w, k).
        coefficients: (k,) of the instance.
        window: (h, w) cells that the crop keeps.
        image_size: (H, W) of the image.

    """
    additions = prototypes * coefficients
    logits = additions.sum(axis=2)
    uncropped = 1 / (1 + np.exp(-logits.astype(np.float64).clip(-60, 60)))
    above = logits > 0
    mask, rest = above & window, window & ~above
    order = np.argsort(-_mean(np.abs(additions), window), kind="stable")
    growing = np.cumsum(additions[:, :, order], axis=2) > 0
    growth = [_iou(growing[:, :, step] & window, mask) for step in range(len(order))]
    leaked = int(np.count_nonzero(above & ~window))
    pixels = image_size[0] * image_size[1] / above.size
    return PrototypeSum(
        coefficients=coefficients,
        inside=_mean(additions, mask),
        around=_mean(additions, rest),
        order=order,
        growth=np.array(growth, dtype=np.float32),
        uncropped=uncropped.astype(np.float32),
        window=window,
        leakage=leaked / max(int(np.count_nonzero(above)), 1),
        leaked_pixels=round(leaked * pixels),
    )


def _mean(additions: Floats, cells: NDArray[np.bool_]) -> Floats:
    chosen = additions[cells]
    mean: Floats = chosen.mean(axis=0) if len(chosen) else np.zeros(additions.shape[2], dtype=np.float32)
    return mean


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0
