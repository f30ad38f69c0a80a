from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from browser import find_browser, show_in_browser
from protomask.evaluation.coco import evaluate_coco
from protomask.evaluation.confusion import ImageScore, measure_confusion
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.truth import GroundTruth
from protomask.reports.examples import choose_examples, rows_of_images
from protomask.reports.page import ReportContent, render_page
from run_folders import LONG_NAMES

MASK = np.zeros((8, 8), dtype=np.uint8, order="F")
MASK[2:6, 2:5] = 1
SQUARE = {"size": [8, 8], "counts": coco_mask.encode(MASK)["counts"].decode()}


def truth(classes: int) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}],
        "categories": [{"id": k + 1, "name": f"class <{k}>"} for k in range(classes)],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 2, 3, 4],
                "area": 12,
                "iscrowd": 0,
                "segmentation": SQUARE,
            }
        ],
    }


def content(classes: int = 2, records: list[dict[str, Any]] | None = None) -> ReportContent:
    row = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 3, 4], "score": 0.9, "segmentation": SQUARE}
    meter = QualityMeter(truth(classes))
    meter.update_rows([row])
    return ReportContent(
        title="A <run>",
        facts=[("model", "a & b")],
        settings="model: nano\n",
        records=records or [],
        metrics=evaluate_coco(truth(classes), [row]),
        confusion=measure_confusion(GroundTruth.load(truth(classes), masks=True), [row], [1]),
        quality=meter.compute(),
        errors=measure_errors(truth(classes), {"bbox": [row], "segm": [row]}),
        best=[],
        worst=[],
    )


class Tags(HTMLParser):
    """Checks that elements are closed in order; collects the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.charts = 0
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.charts += tag == "svg"
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


RECORDS = [
    {"kind": "train", "iteration": 20, "learning_rate": 0.01, "loss_total": 3.5, "loss_box": 2.0, "skipped_steps": 2},
    {"kind": "validation", "iteration": 20, "mask_AP": 0.25, "mask_AP50": None, "box_AP": 0.5},
]


@pytest.mark.parametrize("records", [[], RECORDS], ids=["no records", "records"])
def test_a_page_of_little(records: list[dict[str, Any]]) -> None:
    page = Tags(render_page(content(records=records)))
    assert page.charts == 11
    texts = "".join(page.texts)
    assert "A <run>" in texts
    assert ("no data" in texts) == (not records)
    assert ("2 steps were left out" in texts) == bool(records)
    if records:
        assert {"mask AP 0.250", "box AP 0.500"} <= set(page.texts)


def test_a_large_matrix_shows_the_classes_with_the_most_errors() -> None:
    many = content(classes=60)
    counts = np.zeros((61, 61), dtype=np.int64)
    counts[7, 9] = 5
    page = "".join(Tags(render_page(replace(many, confusion=replace(many.confusion, counts=counts)))).texts)
    assert "Of 60 classes it shows the 40 with the most errors." in page


def test_charts_and_page_share_one_style_sheet() -> None:
    page = render_page(content())
    assert page.count("<style") == 1
    assert page.count("svg.chart .s0 {") == 2  # light and dark
    assert "http" not in page


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_ten_long_names_fit_a_browser(tmp_path: Path) -> None:
    whole = content(classes=10)
    counts = np.random.default_rng(0).integers(0, 200, (11, 11))
    long = replace(whole, confusion=replace(whole.confusion, class_names=LONG_NAMES, counts=counts))
    (tmp_path / "index.html").write_text(render_page(long))
    told = show_in_browser(tmp_path / "index.html", (390, 1280))
    assert {width for width, one in told.items() if one["needed"] > width} == set()
    assert told[1280]["scrolling"] == []
    assert told[390]["scrolling"] == ["each class", "confusion matrix", "errors by type"]


def image(key: int, objects: int, detections: int, matches: int) -> ImageScore:
    return ImageScore(image_id=key, objects=objects, detections=detections, matches=matches, iou_sum=0.8 * matches)


def test_examples_are_the_best_and_the_worst() -> None:
    images = (*(image(k, 20, 20, k) for k in range(20)), image(99, 0, 0, 0))
    confusion = replace(content().confusion, images=images)
    worst, best = choose_examples(confusion)
    assert [one.image_id for one in worst] == [0, 1, 2, 3, 4, 5]
    assert [one.image_id for one in best] == [19, 18, 17, 16, 15, 14]
    few = choose_examples(replace(confusion, images=images[:3]))
    assert [[one.image_id for one in half] for half in few] == [[0, 1], [2, 1]]
    assert choose_examples(replace(confusion, images=())) == ([], [])


def test_rows_of_images_keeps_what_scores_above_the_threshold() -> None:
    rows = [{"image_id": k, "score": score} for k in (1, 2, 3) for score in (0.2, 0.3, 0.4)]
    found = rows_of_images([image(1, 0, 0, 0), image(3, 0, 0, 0), image(4, 0, 0, 0)], rows, 0.3)
    assert found == {1: [rows[2]], 3: [rows[8]], 4: []}
