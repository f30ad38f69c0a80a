"""Crop, connected part and edges of masks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.detection.mask_shape import MaskShape
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import MaskSource

Floats = NDArray[np.float32]
SIZE = (40, 40)
GRID = 20
BOX = np.array([[0.2, 0.2, 0.5, 0.5]], dtype=np.float32)


def logits() -> Floats:
    """A disk in the box that reaches out of it a little, and another one that the box cuts at its corner."""
    y, x = np.mgrid[:GRID, :GRID].astype(np.float32)
    disks = [radius - np.hypot(x - at, y - at) for at, radius in ((6.5, 2.9), (11.0, 2.0))]
    grid: Floats = (np.maximum(*disks) * 4).astype(np.float32)
    return grid


def painted(source: MaskSource) -> NDArray[np.bool_]:
    found = Instances(
        boxes=BOX * 40,
        labels=np.zeros(1, dtype=np.int64),
        class_scores=np.ones(1, dtype=np.float32),
        mask_scores=None,
        masks=source,
        image_size=SIZE,
        class_names=("nut",),
    )
    dense: NDArray[np.bool_] = found.masks[0]
    return dense


def mask(shape: MaskShape) -> NDArray[np.bool_]:
    return painted(shape.of_prototypes(logits()[..., None], np.ones((1, 1), dtype=np.float32), BOX, SIZE))


@pytest.mark.parametrize("edges", ["grid", "pixels"])
def test_each_crop_keeps_what_it_says(edges: str) -> None:
    own = MaskShape(edges="pixels" if edges == "pixels" else "grid")
    box, part = mask(own), mask(own._replace(crop="component"))
    wide, free = mask(own._replace(margin=0.3)), mask(own._replace(crop="none"))
    assert not box[:, 25:].any()
    assert box[20:23, 20:23].any()  # the corner of the other disk
    assert not part[20:, 20:].any()
    assert part.sum() > 0.9 * box.sum()
    assert (part <= box).all()
    assert box.sum() < wide.sum() <= free.sum()
    assert free[23, 24]


def test_a_margin_reaches_as_far_as_it_says() -> None:
    full = np.full((GRID, GRID, 1), 9, dtype=np.float32)
    one = np.ones((1, 1), dtype=np.float32)
    for margin, low, high in ((0.0, 8, 20), (0.5, 2, 26), (10.0, 0, 40)):
        found = painted(MaskShape(margin=margin, edges="pixels").of_prototypes(full, one, BOX, SIZE))
        rows = np.flatnonzero(found.any(axis=1))
        assert abs(rows[0] - low) <= 2
        assert abs(rows[-1] + 1 - high) <= 2


def test_a_part_of_cropped_grids_is_that_of_prototypes() -> None:
    shape = MaskShape(crop="component")
    probs = np.zeros((1, GRID, GRID), dtype=np.float32)
    probs[0, 3:11, 3:11] = 1 / (1 + np.exp(-logits()[3:11, 3:11]))
    np.testing.assert_array_equal(painted(shape.of_grids(probs, BOX, SIZE)), mask(shape))


def test_edges_in_pixels_follow_a_circle() -> None:
    y, x = np.mgrid[:GRID, :GRID].astype(np.float32)
    disk = ((4.3 - np.hypot(x - 7, y - 7)) * 2)[..., None].astype(np.float32)
    box = np.array([[0.05, 0.05, 0.65, 0.65]], dtype=np.float32)
    size = (200, 200)
    pixel_y, pixel_x = (np.mgrid[:200, :200] + 0.5) / 10 - 0.5
    truth = np.hypot(pixel_x - 7, pixel_y - 7) < 4.3
    one = np.ones((1, 1), dtype=np.float32)
    wrong = {}
    for edges in ("grid", "pixels"):
        shape = MaskShape(edges="pixels" if edges == "pixels" else "grid")
        runs = next(iter(shape.of_prototypes(disk, one, box, size).runs()))
        found = np.zeros(200 * 200, dtype=np.bool_)
        for begin, end in runs.tolist():
            found[begin:end] = True
        wrong[edges] = int((truth != found.reshape(200, 200).T).sum())
    assert wrong["pixels"] < wrong["grid"] / 2


def test_no_masks() -> None:
    for edges in ("grid", "pixels"):
        shape = MaskShape("component", 0.1, "pixels" if edges == "pixels" else "grid")
        none = shape.of_prototypes(logits()[..., None], np.ones((0, 1), dtype=np.float32), BOX[:0], SIZE)
        assert len(none) == 0
        assert list(none.runs()) == []
