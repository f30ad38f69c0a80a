from __future__ import annotations

from typing import Any

import pytest

from drawn_objects import DOG, Scene
from protomask.evaluation.errors.mask_errors import FAULTS
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import MaskFaults

A, B = (10, 10, 40, 40), (55, 10, 40, 40)
"""Of 1600 px: along the outline is up to 4 px from it."""


def scene() -> Scene:
    return Scene().image()


def faults_of(made: Scene, **options: Any) -> MaskFaults:
    report = measure_errors(made.truth, {"bbox": made.boxes, "segm": made.masks}, **options)
    assert report.faults is not None
    return report.faults


def counts(faults: MaskFaults) -> dict[str, int]:
    return {name: tally.count for name, tally in faults.faults.items() if tally.count}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(scene().object(A).found(A), {}, id="right"),
        # 48²: an IoU of 0.69, and all of it within 4 px.
        pytest.param(scene().object(A).found((6, 6, 48, 48)), {"boundary only": 1}, id="dilated"),
        pytest.param(scene().object(A).found((14, 14, 33, 33), box=A), {"boundary only": 1}, id="eroded"),
        pytest.param(scene().object(A).found((11, 11, 40, 40)), {}, id="moved by a pixel"),
        # 10 of 50 columns leak, 6 of them further than 4 px: 6/50 of the mask.
        pytest.param(scene().object(A).found((10, 10, 50, 40)), {"leakage": 1}, id="leaked"),
        pytest.param(scene().object(A).found((10, 10, 48, 40)), {}, id="leaked a little"),
        pytest.param(scene().object(A).found((10, 10, 40, 36), box=(10, 10, 40, 36)), {"cut by the box": 1}, id="cut"),
        pytest.param(scene().object(A).found((10, 10, 40, 37), box=(10, 10, 40, 37)), {}, id="cut a little"),
        # A hole in the middle, in a box that is large enough: 24 x 24 of 1600 px are missing.
        pytest.param(
            scene().object(A).found((10, 10, 40, 8), (10, 42, 40, 8), (10, 18, 8, 24), (42, 18, 8, 24)),
            {"other": 1},
            id="a hole",
        ),
        pytest.param(scene().object(A).object(B).found(A, B), {"merged": 1}, id="merged"),
        pytest.param(
            scene().object((10, 10, 20, 20)).object((10, 40, 20, 20)).object((40, 10, 20, 20)).object((40, 40, 20, 20))
            .object((70, 10, 20, 20)).object((70, 40, 20, 20)).object((10, 70, 20, 20)).object((40, 70, 20, 20))
            .object((70, 70, 20, 20)).found((0, 0, 100, 100)),
            {"merged": 1},
            id="over many",
        ),
        # A small object on another, which has these pixels too: the mask of the large one is not a merged one.
        pytest.param(scene().object(A).object((20, 20, 10, 10)).found(A), {}, id="an object on an object"),
        pytest.param(
            scene().object(A).found((10, 10, 20, 40)).found((30, 10, 20, 40), score=0.8), {"split": 2}, id="split"
        ),
        pytest.param(scene().object(A).found(A).found(A, score=0.8), {}, id="twice"),
        pytest.param(
            scene().object(A).object((15, 15, 15, 15)).object((32, 32, 15, 15)).found(A)
            .found((15, 15, 15, 15)).found((32, 32, 15, 15)),
            {},
            id="objects in an object",
        ),
        pytest.param(
            scene().object(A).found((10, 10, 20, 40), box=A).found((10, 10, 20, 40), score=0.8, box=A),
            {"other": 2},
            id="the same half twice",
        ),
        pytest.param(scene().object(A).found((6, 6, 48, 48), category=DOG), {"boundary only": 1}, id="of any class"),
        pytest.param(scene().object(A).found((10, 10, 50, 40), score=0.3), {}, id="below the threshold"),
        pytest.param(scene().object(A).found((60, 60, 30, 30)), {}, id="no object"),
        pytest.param(scene().object((0, 0, 90, 90), crowd=True).object(A).found((5, 5, 30, 30)), {}, id="in a crowd"),
        pytest.param(scene(), {}, id="nothing"),
    ],
)  # fmt: skip
def test_faults(made: Scene, expected: dict[str, int]) -> None:
    faults = faults_of(made)
    assert counts(faults) == expected
    assert faults.examined == faults.good + sum(expected.values())
    assert set(faults.faults) == set(FAULTS)


def test_costs_are_those_of_perfect_masks() -> None:
    # Alone: an IoU of 0.8 counts at 7 of 10 thresholds.
    faults = faults_of(scene().object(A).found((10, 10, 50, 40)))
    assert pytest.approx(0.7) == faults.AP
    assert {name: tally.AP_cost for name, tally in faults.faults.items() if tally.AP_cost} == pytest.approx(
        {"leakage": 0.3}
    )
    # The better half stands for the whole object, the other is no longer a false detection.
    faults = faults_of(scene().object(A).object(B).found((10, 10, 20, 40)).found((30, 10, 20, 40)).found(B, score=0.5))
    assert faults.faults["split"].count == 2
    assert faults.AP is not None
    assert faults.AP + faults.faults["split"].AP_cost == pytest.approx(1.0)


def test_parts_outside() -> None:
    faults = faults_of(scene().object(A).found((10, 10, 50, 40), box=(10, 10, 45, 40)).found(A, score=0.8))
    assert faults.mean_leakage == pytest.approx(6 / 50 / 2)
    assert faults.mean_outside_box == pytest.approx(5 / 50 / 2)


def test_without_boxes_no_mask_is_cut() -> None:
    made = scene().object(A).found((10, 10, 40, 20), box=(10, 10, 40, 20))
    report = measure_errors(made.truth, {"segm": made.masks})
    assert report.box is None
    assert report.faults is not None
    assert counts(report.faults) == {"other": 1}
    assert report.faults.mean_outside_box is None
