from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import find_browser, show_in_browser
from drawn_objects import DOG, Scene
from protomask.data.coco.dataset import CocoDataset
from protomask.evaluation.errors.mask_errors import FAULTS
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import Mark
from protomask.evaluation.errors.tide import TYPES
from protomask.images.draw import PALETTE
from protomask.reports.error_examples import draw_marks
from protomask.reports.errors_page import render_errors_page, write_errors_page
from protomask.reports.remedies import MEANINGS, REMEDIES, remedy_rows

A, B = (10, 10, 40, 40), (55, 10, 40, 40)


def spoiled() -> Scene:
    """A wrong class, a leaked mask, a missed object."""
    made = Scene().image().object(A).object(B).object((10, 60, 20, 20))
    return made.found(A, category=DOG).found((55, 10, 40, 55), score=0.8)


def write(made: Scene, folder: Path) -> CocoDataset:
    (folder / "images").mkdir()
    Image.new("RGB", (made.side, made.side), "gray").save(folder / "images" / "1.png")
    (folder / "val.json").write_text(json.dumps(made.truth))
    return CocoDataset(folder / "val.json", folder / "images")


def test_every_error_has_a_meaning_and_a_remedy() -> None:
    assert set(MEANINGS) == set(REMEDIES) == {*TYPES, *FAULTS}


def test_a_page_with_images_and_numbers(tmp_path: Path) -> None:
    made = spoiled()
    dataset = write(made, tmp_path)
    report = measure_errors(dataset, {"bbox": made.boxes, "segm": made.masks})
    page = tmp_path / "out" / "index.html"
    write_errors_page(report, dataset, page)
    files = sorted(file.name for file in page.parent.iterdir())
    assert files == ["errors.json", "errors_1_found.jpg", "errors_1_truth.jpg", "index.html"]
    assert json.loads((page.parent / "errors.json").read_text()) == report.to_dict()
    content = page.read_text(encoding="utf-8")
    assert "1 classification" in content
    assert "1 leakage" in content
    assert '<section id="masks">' in content
    assert "http" not in content
    assert all(file in content for file in files[1:3])
    with Image.open(page.parent / "errors_1_found.jpg") as image:
        assert max(image.size) == 720


def test_remedies_of_what_costs_most_come_first() -> None:
    made = spoiled()
    rows = remedy_rows(measure_errors(made.truth, {"bbox": made.boxes, "segm": made.masks}))
    costs = [cost for _, cost, _ in rows]
    assert costs == sorted(costs, reverse=True)
    assert min(costs) > 0
    assert {"classification", "missed"} <= {name for name, _, _ in rows}


def test_perfect_results_and_boxes_only() -> None:
    perfect = Scene().image().object(A).found(A)
    page = render_errors_page(measure_errors(perfect.truth, {"bbox": perfect.boxes, "segm": perfect.masks}), [], "a<b")
    assert "Nothing costs anything" in page
    assert "No image has an error" in page
    assert "a&lt;b" in page
    boxes = spoiled()
    page = render_errors_page(measure_errors(boxes.truth, {"bbox": boxes.boxes}), [], "boxes")
    assert '<section id="masks">' not in page
    assert "box AP50" in page


def test_only_what_is_wrong_is_named_and_strongly_coloured() -> None:
    made = Scene().object(A).object(B)
    rows = [{"bbox": list(box), "segmentation": made.rle([box])} for box in (A, B)]
    marks = [Mark(error=None, fault=None, row=rows[0]), Mark(error="missed", fault=None, row=rows[1])]
    drawn = np.asarray(draw_marks(Image.new("RGB", (200, 200), "black"), marks, (100, 100)), dtype=float)
    right, wrong = drawn[60, 60], drawn[80, 150]
    assert right == pytest.approx(np.array(PALETTE[0]) * 0.15, abs=2)
    assert wrong == pytest.approx(np.array(PALETTE[6]) * 0.45, abs=2)
    boxes = [Mark(error=mark.error, fault=None, row={**mark.row, "segmentation": None}) for mark in marks]
    outlined = np.asarray(draw_marks(Image.new("RGB", (200, 200), "black"), boxes, (100, 100)))
    assert not outlined[60, 60].any()
    assert outlined[20:100, 20].any()


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_in_a_browser(tmp_path: Path) -> None:
    made = spoiled()
    dataset = write(made, tmp_path)
    page = tmp_path / "out" / "index.html"
    write_errors_page(measure_errors(dataset, {"bbox": made.boxes, "segm": made.masks}), dataset, page)
    told = show_in_browser(page, (390, 1280))
    assert {width for width, one in told.items() if one["needed"] > width} == set()
    assert told[1280]["broken"] == told[1280]["errors"] == told[1280]["scrolling"] == []
    assert told[1280]["sections"] == ["types", "masks", "where", "remedies", "worst"]
    assert (told[1280]["drawings"], told[1280]["pictures"]) == (3, 2)
