from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_objects import CAT, Scene
from protomask.evaluation.errors.boundary import boundary_ious, boundary_of
from protomask.evaluation.errors.matching import ImageOverlaps, compare_image
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import BoundaryAP
from protomask.evaluation.match import prepare_results
from protomask.evaluation.truth import GroundTruth
from protomask.masks.rle import decode_rle, encode_rle, rle_area

SIDE = 100  # boundaries are 3 px wide


def overlaps_of_scene(made: Scene) -> ImageOverlaps:
    truth = GroundTruth.load(made.truth, masks=True)
    return compare_image(prepare_results(made.masks, truth, "segm"), truth.annotations, "segm", 100)


def boundary_ap(made: Scene) -> BoundaryAP:
    report = measure_errors(made.truth, {"segm": made.masks})
    assert report.boundary is not None
    return report.boundary


def test_the_boundary_of_a_square() -> None:
    boundary = boundary_of({"segmentation": Scene(SIDE).rle([(10, 20, 40, 40)])})["segmentation"]
    assert rle_area(boundary) == 40**2 - 34**2
    mask = decode_rle(boundary)
    assert mask[20:60, 10:50].sum() == mask.sum()
    assert not mask[23:57, 13:47].any()


@pytest.mark.parametrize(
    ("moved", "mask_iou", "boundary_iou"),
    [
        # A square of 40: mask 39/41 at 1 px. The frames of 444 px share 2 x 39 x 3 px of their long sides, and of
        # their short sides 2 px each in 34 rows.
        (1, 39 / 41, (2 * 39 * 3 + 2 * 2 * 34) / (2 * 444 - (2 * 39 * 3 + 2 * 2 * 34))),
        (2, 38 / 42, (2 * 38 * 3 + 2 * 1 * 34) / (2 * 444 - (2 * 38 * 3 + 2 * 1 * 34))),
        (3, 37 / 43, (2 * 37 * 3) / (2 * 444 - 2 * 37 * 3)),
    ],
)
def test_a_moved_square(moved: int, mask_iou: float, boundary_iou: float) -> None:
    made = Scene(SIDE).image().object((10, 20, 40, 40)).found((10 + moved, 20, 40, 40))
    overlaps = overlaps_of_scene(made)
    assert overlaps.ious[0, 0] == pytest.approx(mask_iou)
    assert boundary_ious(overlaps)[0, 0] == pytest.approx(boundary_iou)
    result = boundary_ap(made)
    assert pytest.approx(sum(boundary_iou >= 0.5 + 0.05 * k for k in range(10)) / 10) == result.AP
    assert float(boundary_iou >= 0.5) == result.AP50
    assert float(boundary_iou >= 0.75) == result.AP75


def test_equal_masks_and_none() -> None:
    same = boundary_ap(Scene(SIDE).image().object((10, 20, 40, 40)).found((10, 20, 40, 40)))
    assert (same.AP, same.AP50, same.AP75) == (1.0, 1.0, 1.0)
    nothing = boundary_ap(Scene(SIDE).image().found((10, 20, 40, 40)))
    assert nothing.AP is nothing.AP50 is nothing.AP75 is None


def test_crowds_are_compared_as_masks() -> None:
    made = Scene(SIDE).image().object((0, 0, 60, 60), crowd=True).object((70, 70, 20, 20))
    made.found((10, 10, 30, 30)).found((70, 70, 20, 20), score=0.8)
    assert boundary_ap(made).AP == 1.0


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_never_above_the_mask_iou_and_equal_for_thin_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = Scene(SIDE).image()
    for thin in (True, False):
        x, y, dx, dy = (int(one) for one in rng.integers(0, (40, 40, 4, 4)))
        height = 6 if thin else int(rng.integers(7, 50))
        made.object((x, y, 50, height)).found((x + dx, y + dy, 50, height), category=CAT)
    overlaps = overlaps_of_scene(made)
    lesser = boundary_ious(overlaps)
    assert (lesser <= overlaps.ious + 1e-12).all()
    assert lesser[0, 0] == pytest.approx(overlaps.ious[0, 0])  # up to 6 px high, all of it is boundary


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_the_boundary_of_any_mask_is_a_part_of_it_with_its_extent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((5, 6)) < 0.6, np.ones((8, 7), dtype=np.bool_))
    boundary = decode_rle(boundary_of({"segmentation": encode_rle(mask[None])[0]})["segmentation"])
    assert not (boundary & ~mask).any()
    for axis in (0, 1):
        assert (boundary.any(axis=axis) == mask.any(axis=axis)).all()
