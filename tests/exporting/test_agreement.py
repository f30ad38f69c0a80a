from __future__ import annotations

import json
from typing import Any

import pytest

from protomask.errors import ExportError
from protomask.exporting.agreement import ONE_STAGE, Agreement, WaysOut, judge, report

WAYS_OUT = WaysOut(network="TRY ANOTHER FORMAT", choice="TRY CANDIDATES")


def agreement(**changes: Any) -> Agreement:
    given: dict[str, Any] = {
        "images": 2, "score_threshold": 0.3, "detections": 1000, "unmatched": 0, "score_difference": 1e-6,
        "box_difference": 1e-4, "mask_iou": 1.0, "weaker": 500, "parts": {"boxes": 1e-6, "class_logits": 2e-6},
    }  # fmt: skip
    return Agreement(**{**given, **changes})


def ap(box: float | None, mask: float | None) -> dict[str, float | None]:
    return {"box_AP": box, "box_AP50": 0.9, "mask_AP": mask}


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"parts": {}}, []),
        ({"ap": {"pytorch": ap(0.5, 0.4), "file": ap(0.496, 0.396)}}, []),
        ({"ap": {"pytorch": ap(0.5, 0.4), "file": ap(0.6, 0.6)}}, []),
        ({"ap": {"pytorch": ap(None, None), "file": ap(None, None)}}, []),
        ({"unmatched": 7, "deviating": 3}, ["10 of 1000 detections above score 0.3 differ (7 unmatched; scores by up"]),
        ({"detections": 3, "unmatched": 1}, ["1 of 3 detections above score 0.3 differ"]),
        ({"weaker_unmatched": 99}, ["99 of 500 detections up to score 0.3 are unmatched"]),
        ({"weaker_unmatched": 9, "search_depth": 40}, ["ends after 40 candidates, a larger search_depth finds more"]),
        ({"warnings": ("before",), "unmatched": 1}, ["before", "1 of 1000"]),
    ],
)
def test_what_does_not_matter_is_a_warning_with_its_size(changes: dict[str, Any], warnings: list[str]) -> None:
    judged = judge(agreement(**changes), "a.onnx", ONE_STAGE, WAYS_OUT)
    assert len(judged.warnings) == len(warnings)
    assert all(text in warning for text, warning in zip(warnings, judged.warnings, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unmatched": 11}, r"above score 0\.3 .* up to 10 may differ\), got 11 that differ.*; TRY CANDIDATES$"),
        ({"unmatched": 1, "deviating": 10}, "got 11 that differ"),
        ({"detections": 0, "unmatched": 2}, "got 2 that differ"),
        ({"parts": {"boxes": 0.2, "class_logits": 1e-9}}, "before NMS .* got boxes by 2.0e-01; TRY ANOTHER FORMAT$"),
        ({"parts": {"boxes": float("nan")}}, "got boxes by nan"),
        ({"parts": {"boxes": float("inf")}}, "got boxes by inf"),
        (
            {"ap": {"pytorch": ap(0.5, 0.4), "file": ap(0.5, 0.39)}},
            "AP .* within 0.005, got box AP 0.500, mask AP 0.390 instead of 0.500, 0.400; TRY CANDIDATES$",
        ),
    ],
)
def test_what_matters_is_refused_with_what_helps(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=f"^a.onnx: expected .*{message}"):
        judge(agreement(**changes), "a.onnx", ONE_STAGE, WAYS_OUT)


def test_masks_on_another_grid_may_have_another_ap() -> None:
    of_masks = agreement(ap={"pytorch": ap(0.5, 0.4), "file": ap(0.5, 0.3)})
    assert judge(of_masks, "a.onnx", ONE_STAGE, WAYS_OUT, masks=False).warnings == ()
    of_boxes = agreement(ap={"pytorch": ap(0.5, 0.4), "file": ap(0.4, 0.4)})
    with pytest.raises(ExportError, match="expected the AP"):
        judge(of_boxes, "a.onnx", ONE_STAGE, WAYS_OUT, masks=False)


def test_detections_of_rounded_weights_may_differ_but_not_their_ap() -> None:
    [warning] = judge(agreement(unmatched=400), "a.onnx", ONE_STAGE, WAYS_OUT, detections=False).warnings
    assert "400 of 1000 detections above score 0.3 differ" in warning
    worse = agreement(ap={"pytorch": ap(0.5, 0.4), "file": ap(0.4, 0.4)})
    with pytest.raises(ExportError, match="expected the AP"):
        judge(worse, "a.onnx", ONE_STAGE, WAYS_OUT, detections=False)


def test_eight_bits_are_reported_and_never_refused() -> None:
    worse = {"pytorch": ap(0.5, 0.4), "file": ap(0.45, 0.4)}
    differs, costs = report(agreement(unmatched=400, parts={}, ap=worse)).warnings
    assert "400 of 1000 detections" in differs
    assert "8 bits cost 0.050 AP: box AP 0.450, mask AP 0.400 instead of 0.500, 0.400; calibration" in costs
    assert report(agreement(parts={})).warnings == ()
    _, advice = report(agreement(unmatched=400, parts={})).warnings
    assert "with data the AP of both is measured" in advice


def test_an_agreement_says_what_was_compared() -> None:
    assert str(agreement()) == (
        "1000 detections above score 0.3 on 2 images, none unmatched; largest difference of scores 1.0e-06, of boxes "
        "1.0e-04 px; before NMS 2.0e-06; smallest IoU of masks 1.0000"
    )
    assert "before NMS" not in str(agreement(parts={}))
    assert json.loads(json.dumps(agreement(warnings=("a",)).to_dict()))["warnings"] == ["a"]
