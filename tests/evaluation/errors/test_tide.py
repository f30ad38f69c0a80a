"""Every expected AP here is computed by hand: of 101 recalls, 51 are up to one half, 34 up to a third."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coco_records import random_results, random_truth
from drawn_objects import DOG, Scene
from protomask.evaluation.coco import evaluate_coco
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import TypeErrors
from protomask.evaluation.errors.tide import TYPES

HALF = 51 / 101
A, B, C = (0, 0, 20, 20), (40, 0, 20, 20), (0, 40, 20, 20)


def scene() -> Scene:
    return Scene().image()


def errors_of(scene: Scene, **options: Any) -> tuple[TypeErrors, TypeErrors]:
    report = measure_errors(scene.truth, {"bbox": scene.boxes, "segm": scene.masks}, **options)
    assert report.box is not None
    assert report.mask is not None
    return report.box, report.mask


def counts(errors: TypeErrors) -> dict[str, int]:
    return {name: tally.count for name, tally in errors.types.items() if tally.count}


def costs(errors: TypeErrors) -> dict[str, float]:
    return {name: tally.AP_cost for name, tally in errors.types.items() if tally.AP_cost}


# An object 20 wide: moved by 8 the IoU is 12/28, by 6 14/26, by 17 3/37, by 16 4/36.
ONE = [
    pytest.param(scene().object(A).found(A), {}, id="right"),
    pytest.param(scene().object(A).found((6, 0, 20, 20)), {}, id="right enough"),
    pytest.param(scene().object(A).found((8, 0, 20, 20)), {"localisation": 1}, id="moved"),
    pytest.param(scene().object(A).found((16, 0, 20, 20)), {"localisation": 1}, id="moved far"),
    pytest.param(scene().object(A).found((17, 0, 20, 20)), {"background": 1, "missed": 1}, id="moved too far"),
    pytest.param(scene().object(A).found(A, category=DOG), {"classification": 1}, id="wrong class"),
    pytest.param(
        scene().object(A).found((8, 0, 20, 20), category=DOG), {"both": 1, "missed": 1}, id="wrong class, moved"
    ),
    pytest.param(scene().object(A).found(A).found(A, score=0.8), {"duplicate": 1}, id="twice"),
    pytest.param(scene().object(A).found(A).found(A, score=0.2), {}, id="twice, once below the threshold"),
    pytest.param(scene().object(A).found(A).found(B), {"background": 1}, id="nothing there"),
    pytest.param(scene().object(A), {"missed": 1}, id="missed"),
    pytest.param(scene().object(A).found(A, score=0.2), {"missed": 1}, id="found below the threshold"),
    pytest.param(scene().found(A), {"background": 1}, id="no object"),
    pytest.param(scene(), {}, id="nothing"),
    pytest.param(scene().object(A, crowd=True).found((2, 2, 5, 5)).found((9, 9, 5, 5)), {}, id="in a crowd"),
    pytest.param(scene().object(A, crowd=True).found(A, category=DOG), {"background": 1}, id="in a crowd of others"),
    pytest.param(
        scene().object(A).object(A, category=DOG).found((8, 0, 20, 20)), {"localisation": 1, "missed": 1},
        id="place before class",
    ),
    pytest.param(scene().object(A).image().found(A), {"background": 1, "missed": 1}, id="in another image"),
    pytest.param(
        scene().object(A).found(A).found(A, score=0.8, category=DOG), {"classification": 1}, id="twice, once wrong"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("made", "expected"), ONE)
def test_types_of_errors(made: Scene, expected: dict[str, int]) -> None:
    for errors in errors_of(made):
        assert counts(errors) == expected


@pytest.mark.parametrize(
    ("made", "ap", "expected"),
    [
        pytest.param(scene().object(A).found(A), 1.0, {}, id="perfect"),
        pytest.param(scene().object(A).object(B).found(A), HALF, {"missed": 1 - HALF}, id="half is missed"),
        # A false positive before the only match halves the precision; after the last match it costs nothing.
        pytest.param(scene().object(A).found(A, score=0.8).found(B), 0.5, {"background": 0.5}, id="background first"),
        pytest.param(scene().object(A).found(A).found(B, score=0.8), 1.0, {}, id="background last"),
        pytest.param(scene().object(A).found((8, 0, 20, 20)), 0.0, {"localisation": 1.0}, id="moved"),
        # The class of the object is no longer missed, that of the detection has no object and does not count.
        pytest.param(scene().object(A).found(A, category=DOG), 0.0, {"classification": 1.0}, id="wrong class"),
        # Two places wrong about one object: one becomes right, the other goes.
        pytest.param(
            scene().object(A).found((8, 0, 20, 20)).found((0, 8, 20, 20), score=0.8), 0.0, {"localisation": 1.0},
            id="moved twice",
        ),
        # The object is found, though late: the repair of a better scored error is that it goes.
        pytest.param(
            scene().object(A).found((8, 0, 20, 20)).found(A, score=0.8), 0.5, {"localisation": 0.5}, id="moved first"
        ),
        # Right, duplicate, right: precision 1 to recall 1/2, then 2/3.
        pytest.param(
            scene().object(A).object(B).found(A).found(A, score=0.8).found(B, score=0.7),
            (51 + 50 * 2 / 3) / 101,
            {"duplicate": 50 / 3 / 101},
            id="a duplicate in between",
        ),
        # Cats: the one is missed, nothing of them was found. Dogs: perfect.
        pytest.param(
            scene().object(A).object(B, category=DOG).found(B, category=DOG), 0.5, {"missed": 0.5}, id="a class missed"
        ),
    ],
)  # fmt: skip
def test_costs(made: Scene, ap: float, expected: dict[str, float]) -> None:
    for errors in errors_of(made):
        assert pytest.approx(ap) == errors.AP50
        assert costs(errors) == pytest.approx(expected)


def test_costs_of_all_wrong_detections_and_of_all_that_is_not_found() -> None:
    # Background, right, moved; the third object is missed: precision 1/2 to recall 1/3.
    made = scene().object(A).object(B).object(C)
    made.found((70, 70, 20, 20)).found(A, score=0.8).found((48, 0, 20, 20), score=0.7)
    for errors in errors_of(made):
        assert pytest.approx(34 / 101 / 2) == errors.AP50
        assert errors.false_positives_AP_cost == pytest.approx(34 / 101 - 34 / 101 / 2)
        assert errors.false_negatives_AP_cost == pytest.approx(1 / 2 - 34 / 101 / 2)
        assert errors.types["missed"].AP_cost == pytest.approx(HALF / 2 - 34 / 101 / 2)
        # Background, right, right: 2/3 to recall 2/3.
        assert errors.types["localisation"].AP_cost == pytest.approx(67 / 101 * 2 / 3 - 34 / 101 / 2)


def test_boxes_and_masks_are_judged_apart() -> None:
    # The box is right, the mask covers a third of the object.
    made = scene().object(A).found((0, 0, 20, 7), box=A)
    box, mask = errors_of(made)
    assert counts(box) == {}
    assert counts(mask) == {"localisation": 1}


def test_only_the_best_detections_of_a_class_count() -> None:
    made = scene().object(A).found(A, score=0.5).found(B).found(C, score=0.8)
    box, _ = errors_of(made, max_detections=2)
    assert counts(box) == {"background": 2, "missed": 1}
    box, _ = errors_of(made, max_detections=3)
    assert counts(box) == {"background": 2}


@pytest.mark.parametrize("seed", range(6))
def test_ap_is_that_of_coco_and_each_detection_is_something(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    rows = random_results(rng, truth)
    masks = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    official = evaluate_coco(truth, {"bbox": rows, "segm": masks})
    report = measure_errors(truth, {"bbox": rows, "segm": masks}, score_threshold=0.0)
    for name, errors in report.types.items():
        assert pytest.approx(official.tables[name].AP50, abs=1e-12) == errors.AP50
        assert set(errors.types) == set(TYPES)
        wrong = sum(tally.count for kind, tally in errors.types.items() if kind != "missed")
        assert 0 < errors.correct + wrong <= len(rows)
    assert report.faults is not None
    assert pytest.approx(official.tables["mask"].AP, abs=1e-12) == report.faults.AP
