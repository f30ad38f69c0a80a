from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from drawn_objects import CAT, DOG, Box, Scene
from protomask.errors import ConfigError
from protomask.evaluation.errors.mask_errors import FAULTS
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import ErrorReport
from protomask.evaluation.errors.tide import TYPES

KINDS = (
    "right", "moved", "wrong class", "both", "duplicate", "background", "missed", "merged", "split", "cut", "leaked",
    "dilated",
)  # fmt: skip


def spoil(made: Scene, kind: str, box: Box, rng: np.random.Generator) -> None:
    """One object, or two, in a field of 100 x 100 px, and what a model with one fault finds of it."""
    x, y, w, h = box
    category, score = int(rng.choice([CAT, DOG])), float(rng.uniform(0.4, 1))
    other = CAT + DOG - category
    if kind != "background":
        made.object(box, category=category)
    found: dict[str, Any] = {"category": category, "score": score}
    if kind in ("right", "duplicate", "background"):
        made.found(box, **found)
    if kind == "duplicate":
        made.found(box, category=category, score=score / 2 + 0.16)
    elif kind == "moved":
        made.found((x + w // 2, y, w, h), **found)
    elif kind == "wrong class":
        made.found(box, category=other, score=score)
    elif kind == "both":
        made.found((x + w // 2, y, w, h), category=other, score=score)
    elif kind == "merged":
        second = (x + w + 2, y, w, h)
        made.object(second, category=category).found(box, second, **found)
    elif kind == "split":
        made.found((x, y, w, h // 2), **found).found((x, y + h // 2, w, h - h // 2), **found)
    elif kind == "cut":
        made.found((x, y, w, round(h * 0.7)), **found)
    elif kind == "leaked":
        made.found((x, y, round(w * 1.4), h), **found)
    elif kind == "dilated":
        made.found((x - 4, y - 4, w + 8, h + 8), **found)


@pytest.mark.parametrize("seed", range(3))
def test_every_fault_of_a_set_with_known_faults_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = Scene(300)
    put = dict.fromkeys(KINDS, 0)
    for _ in range(12):
        made.image()
        for place in rng.permutation(9)[:6].tolist():
            kind = KINDS[int(rng.integers(len(KINDS)))]
            put[kind] += 1
            side = 40  # fixed: "dilated" depends on it
            x, y = (int(one) for one in rng.integers(5, 12, 2))
            spoil(made, kind, (x + place % 3 * 100, y + place // 3 * 100, side, side), rng)
    assert min(put.values()) > 0
    report = measure_errors(made.truth, {"bbox": made.boxes, "segm": made.masks})
    for name, errors in report.types.items():
        # Two squares have an IoU of 0.5 with each, the box around them a little less. Half a square has one of 0.5.
        assert {kind: tally.count for kind, tally in errors.types.items()} == {
            "classification": put["wrong class"],
            "localisation": put["moved"] + put["merged"] * (name == "box"),
            "both": put["both"],
            "duplicate": put["duplicate"] + put["split"],
            "background": put["background"],
            "missed": put["missed"] + put["both"] + put["merged"],
        }
    assert report.faults is not None
    assert {name: tally.count for name, tally in report.faults.faults.items()} == {
        "merged": put["merged"],
        "split": 2 * put["split"],
        "cut by the box": put["cut"] + put["moved"] + put["both"],  # where the box lies elsewhere
        "leakage": put["leaked"],
        "boundary only": put["dilated"],
        "other": 0,
    }


def small_report(**options: Any) -> ErrorReport:
    """A missed large object, a small one with two neighbours, a wrong class."""
    made = Scene(300).image()
    made.object((0, 0, 120, 120)).object((200, 0, 20, 20)).object((210, 0, 20, 20)).object((225, 0, 40, 40))
    made.found((200, 0, 20, 20), category=DOG).found((210, 0, 20, 20)).found((225, 0, 40, 40)).found((0, 200, 9, 9))
    made.image().object((0, 0, 50, 50), category=DOG).found((0, 0, 50, 50), category=DOG)
    return measure_errors(made.truth, {"bbox": made.boxes, "segm": made.masks}, **options)


def test_by_size_crowding_and_class() -> None:
    report = small_report()
    assert report.objects == {
        "by_size": {"small": 2, "medium": 2, "large": 1},
        "by_crowding": {"alone": 2, "touching": 1, "crowded": 2},
        "by_class": {"dog": 1, "cat": 4},
    }
    assert report.mask is not None
    missed, wrong = report.mask.types["missed"], report.mask.types["classification"]
    assert (missed.by_size["large"], missed.by_crowding["alone"], missed.by_class["cat"]) == (1, 1, 1)
    assert (wrong.by_size["small"], wrong.by_crowding["crowded"], wrong.by_class["cat"]) == (1, 1, 1)
    background = report.mask.types["background"]
    assert (background.by_size["small"], sum(background.by_crowding.values()), background.by_class["cat"]) == (1, 0, 1)
    heads, rows = report.breakdown("by_size", "types")
    assert heads == ["objects", *TYPES]
    assert dict(rows) == {
        "small": [2, 1, 0, 0, 0, 1, 0],
        "medium": [2, 0, 0, 0, 0, 0, 0],
        "large": [1, 0, 0, 0, 0, 0, 1],
    }
    assert report.breakdown("by_class", "faults")[0] == ["objects", *FAULTS]


def test_the_worst_images() -> None:
    report = small_report()
    [worst] = report.worst
    assert (worst.image_id, worst.file_name) == (1, "1.png")
    assert worst.counts == {"classification": 1, "background": 1, "missed": 1}
    assert [mark.words for mark in worst.marks] == ["classification", "correct", "correct", "background", "missed"]
    assert all(mark.row["segmentation"] is not None for mark in worst.marks)
    assert small_report(worst=0).worst == ()


def test_as_json() -> None:
    report = small_report()
    content = report.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["mask"]["types"]["missed"]["by_size"]["large"] == 1
    assert content["worst_images"][0]["counts"]["missed"] == 1
    boxes = measure_errors(Scene().image().object((0, 0, 9, 9)).truth, {"bbox": []}).to_dict()
    assert boxes["mask"] is boxes["faults"] is boxes["boundary"] is None
    assert boxes["box"]["types"]["missed"]["count"] == 1


def test_image_ids_choose_what_is_looked_at() -> None:
    report = small_report(image_ids=[2])
    assert report.num_images == 1
    assert report.mask is not None
    assert report.mask.AP50 == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"score_threshold": 1.5}, "score_threshold"), ({"max_detections": 0}, "max_detections")],
)
def test_numbers_out_of_range(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_report(**options)


def test_results_of_something_else() -> None:
    with pytest.raises(ConfigError, match="bbox"):
        measure_errors(Scene().image().truth, {})
