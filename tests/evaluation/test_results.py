from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coco_records import random_results, truth_as_results
from protomask.errors import ConfigError, DataError
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.evaluation.evaluate import evaluate_results
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.results import SavedResults, diagram_path, named_after
from protomask.evaluation.truth import GroundTruth


def write(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def rows(truth: dict[str, Any]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    rows = random_results(rng, truth)
    for row in rows:
        row["class_score"] = float(rng.uniform(0.1, 1))
        row["score"] = row["class_score"] * float(rng.random())
    return rows


def pair_of(rows: list[dict[str, Any]], folder: Path) -> Path:
    """The two files of one name, as `CocoEvaluator.save_results` writes them."""
    common = ("image_id", "category_id")
    boxes = [{**{key: row[key] for key in (*common, "bbox")}, "score": row["class_score"]} for row in rows]
    masks = [{key: row[key] for key in (*common, "segmentation", "score")} for row in rows]
    write(folder / "found_bbox.json", boxes)
    write(folder / "found_segm.json", masks)
    return folder / "found.json"


def test_a_file_tells_of_the_tables_that_it_has_rows_for(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.json", rows)
    name = pair_of(rows, tmp_path)
    read = {path.name: list(SavedResults.read(path).rows) for path in (whole, *tmp_path.glob("found_*"), name)}
    both = ["bbox", "segm"]
    assert read == {"whole.json": both, "found_bbox.json": ["bbox"], "found_segm.json": ["segm"], "found.json": both}
    assert list(SavedResults.read(write(tmp_path / "none.json", [])).rows) == both


def test_a_file_and_a_pair_have_the_same_numbers(
    truth: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    files = [write(tmp_path / "whole.json", [{**row, "bbox": None} for row in rows]), pair_of(rows, tmp_path)]
    loaded = GroundTruth.load(truth, masks=True)
    reports = []
    for file in files:
        meter = QualityMeter(loaded)
        metrics = evaluate_results(loaded, SavedResults.read(file), max_detections=20, quality=meter)
        masks = [{**row, "bbox": None} for row in rows]
        assert metrics.mask == evaluate_coco(truth, masks, iou_types=("segm",), max_detections=(1, 10, 20)).mask
        reports.append(meter.compute().to_dict())
    assert reports[0] == reports[1]
    assert reports[0]["has_mask_scores"]


def test_what_an_evaluator_saved_is_read_back(truth: dict[str, Any], tmp_path: Path) -> None:
    evaluator = CocoEvaluator(truth, category_ids=(2, 5, 7, 9))
    saved = evaluator.save_results(tmp_path / "a.b")
    assert [path.name for path in saved.values()] == ["a.b_bbox.json", "a.b_segm.json"]
    assert SavedResults.read(tmp_path / "a.b").files == saved


def test_one_score_for_each_mask(truth: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**row, "class_score": row["score"]} for row in truth_as_results(truth)]
    masks = SavedResults.read(pair_of(rows, tmp_path)).scored_masks()
    assert all("class_score" not in row for row in masks)


def test_errors(truth: dict[str, Any], rows: list[dict[str, Any]], tmp_path: Path) -> None:
    name = pair_of(rows, tmp_path)
    boxes = tmp_path / "found_bbox.json"
    with pytest.raises(ConfigError, match=r"quality: expected results with masks, but .*_bbox.json holds only boxes"):
        evaluate_results(truth, SavedResults.read(boxes), quality=QualityMeter(truth))
    write(boxes, json.loads(boxes.read_text())[::-1])
    with pytest.raises(DataError, match=r"found_bbox.json and .*found_segm.json do not list the same detections"):
        SavedResults.read(name).scored_masks()
    with pytest.raises(DataError, match=r"nosuch.json: the file cannot be read"):
        SavedResults.read(tmp_path / "nosuch.json")
    with pytest.raises(DataError, match=r"truth.json: expected a list of COCO result objects, got an object"):
        SavedResults.read(write(tmp_path / "truth.json", truth))


@pytest.mark.parametrize(
    ("path", "save_results", "expected"),
    [
        (None, None, "reliability.svg"),
        (None, "out/found.json", "out/found_reliability.svg"),
        (None, "out/found.v2", "out/found.v2_reliability.svg"),
        ("a/plot.SVG", "out/found.json", "a/plot.SVG"),
    ],
)
def test_diagram_path(path: str | None, save_results: str | None, expected: str) -> None:
    assert diagram_path(path, save_results) == Path(expected)


def test_diagram_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for path, message in (
        ("plot.jpg", "ending in .svg, got 'plot.jpg'"),
        (str(tmp_path / "folder.svg"), "is a folder"),
    ):
        with pytest.raises(ConfigError, match=rf"quality_plot: .*{message}"):
            diagram_path(path)


def test_names() -> None:
    assert named_after("out/found.json", "bbox.json") == Path("out/found_bbox.json")
