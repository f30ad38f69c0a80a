from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protomask.charts.drawing import Chart
from protomask.errors import DataError
from protomask.evaluation.quality_report import PopulationQuality, QualityReport, RankedAP, judge_score
from protomask.reports.reliability import reliability_diagram, save_reliability_diagram
from svg_elements import check_readable, count, lines_of, words_of


def population(scores: np.ndarray, ious: np.ndarray, factor: float | None) -> PopulationQuality:
    judged = judge_score(scores, ious)
    rescored = None if factor is None else judge_score(factor * scores, ious)
    mean = float(ious.mean()) if len(ious) else None
    return PopulationQuality(count=len(ious), mean_iou=mean, class_score=judged, mask_score=rescored, product=rescored)


def report(detections: int, *, mask_scores: bool) -> QualityReport:
    random = np.random.default_rng(0)
    scores = random.uniform(0.05, 1.0, detections)
    ious = np.clip(scores + random.normal(0, 0.2, detections), 0, 1)
    factor = 0.8 if mask_scores else None
    sure = ious >= 0.5
    ap = RankedAP(AP=0.5, AP50=0.7, AP75=0.5)
    return QualityReport(
        num_images=3,
        num_detections=detections,
        num_left_out=0,
        min_class_score=0.05,
        has_mask_scores=mask_scores,
        populations={
            "all": population(scores, ious, factor),
            "matched": population(scores[sure], ious[sure], factor),
        },
        mask_ap={"class_score": ap, "product": ap} if mask_scores else {"class_score": ap},
    )


@pytest.mark.parametrize("detections", [0, 1, 60, 5000])
@pytest.mark.parametrize("mask_scores", [False, True])
def test_one_curve_for_each_score_of_each_population(detections: int, mask_scores: bool) -> None:
    chart = reliability_diagram(report(detections, mask_scores=mask_scores))
    check_readable(chart)
    words = " ".join(word.text for word in words_of(chart))
    assert f"{detections} detections" in words
    assert ("class x mask score" in words) == mask_scores
    assert ("no data" in words) == (detections == 0)
    assert len(lines_of(chart)) == (2 * (1 + mask_scores) if detections > 1 else 0)
    assert count(chart, "reference") == 3  # two diagonals and the key
    assert "Spearman" in words


def test_bins_with_few_detections_are_hollow() -> None:
    assert count(reliability_diagram(report(60, mask_scores=False)), "hollow") > 10
    assert count(reliability_diagram(report(50_000, mask_scores=False)), "hollow") == 0


def test_an_honest_score_lies_on_the_diagonal() -> None:
    honest = np.linspace(0.051, 0.999, 1000)
    told = report(0, mask_scores=False)
    told = QualityReport(
        **{**vars(told), "populations": dict.fromkeys(told.populations, population(honest, honest, None))}
    )
    for line in lines_of(reliability_diagram(told)):
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(line)]
        assert slopes == pytest.approx([slopes[0]] * len(slopes), abs=0.02)


def test_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = save_reliability_diagram(report(60, mask_scores=True), tmp_path / "new" / "reliability.svg")
    assert written.read_text().startswith("<?xml")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_reliability_diagram(report(0, mask_scores=True), tmp_path / "file" / "reliability.svg")

    def fail(_: Chart) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(Chart, "document", fail)
    with pytest.raises(DataError, match="disk full"):
        save_reliability_diagram(report(0, mask_scores=True), tmp_path / "other" / "reliability.svg")
    assert list((tmp_path / "other").iterdir()) == []
