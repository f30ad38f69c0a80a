"""The reliability diagram of a `QualityReport`: measured mask IoU over score.

Diagrams of this kind go back to Niculescu-Mizil and Caruana 2005, here with the mask's IoU where they have the share of
right answers. An honest score lies on the diagonal; below it the score promises too much.
"""

from __future__ import annotations

from pathlib import Path

from protomask.charts.bars import histogram
from protomask.charts.drawing import Chart, arrange
from protomask.charts.keys import Entry, key_chart
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.errors import DataError
from protomask.evaluation.quality_report import MATCHED_IOU, Population, QualityReport, Score, ScoreQuality

_FEW = 20  # detections below which the mean of a bin says little
_WIDTH, _LEFT = 440.0, 58.0
_UNIT = (0.0, 1.0)

# The colors and shapes differ in grey, too.
_NAMES: dict[Score, str] = {"class_score": "class score", "product": "class x mask score"}
_COLORS: dict[Score, int] = {"class_score": 4, "product": 0}
_SHAPES: dict[Score, int] = {"class_score": 1, "product": 0}


def reliability_diagram(report: QualityReport) -> Chart:
    """Both populations side by side: mean measured IoU over mean score of each bin, and below the detections per bin.

    Squares are the class score; circles are the product, where the model has mask scores. Hollow marks stand for fewer
    than 20 detections. The axis of the counts is logarithmic.
    """
    panels = [_panels(report, population, title) for population, title in _titles(report).items()]
    return arrange(
        [
            [key_chart(_key(report), width=2 * _WIDTH)],
            *([left, right] for left, right in zip(*panels, strict=True)),
        ],
        title="How well the score predicts the IoU of the mask",
    )


def reliability_panels(report: QualityReport) -> list[Chart]:
    """The two halves of `reliability_diagram`, each with its key, for a page that puts them where there is room."""
    key = key_chart(_key(report), width=_WIDTH)
    charts = []
    for population, title in _titles(report).items():
        curves, counts = _panels(report, population, title)
        charts.append(arrange([[curves], [counts], [key]], title=title, heading=False))
    return charts


def _titles(report: QualityReport) -> dict[Population, str]:
    return {
        "all": f"All detections with a class score above {report.min_class_score:g}",
        "matched": f"Matched: measured IoU of {MATCHED_IOU:g} or more",
    }


def _key(report: QualityReport) -> list[Entry]:
    scores = [name for name in _NAMES if name in report.mask_ap]
    entries = [Entry(name=_NAMES[name], number=_COLORS[name], look="marked", shape=_SHAPES[name]) for name in scores]
    return [*entries, Entry(name="honest", look="reference"), Entry(name=f"hollow: fewer than {_FEW} detections")]


def save_reliability_diagram(report: QualityReport, path: str | Path) -> Path:
    """Write the diagram as SVG, whole or not at all; folders are made as needed.

    Raises:
        DataError: the file cannot be written.

    """
    return reliability_diagram(report).save(path, error=DataError)


def _panels(report: QualityReport, population: Population, title: str) -> tuple[Chart, Chart]:
    """The curves and the counts of one population."""
    quality = report.populations[population]
    scores = {name: one for name, one in quality.scores().items() if name in _NAMES}
    curves = line_chart(
        [_series(name, one) for name, one in scores.items()],
        title=title,
        notes=[f"{quality.count} detections", *(_numbers(name, one) for name, one in scores.items())],
        x=Axis(span=_UNIT),
        y=Axis(label="mean measured IoU", span=_UNIT),
        width=_WIDTH,
        height=330,
        left=_LEFT,
        diagonal=True,
        key=False,
    )
    counts = histogram(
        {_NAMES[name]: [one.count for one in quality.bins] for name, quality in scores.items()},
        title="",
        x=Axis(label="score", span=_UNIT),
        y=Axis(label="detections", log=True),
        width=_WIDTH,
        height=150,
        left=_LEFT,
        numbers=[_COLORS[name] for name in scores],
    )
    return curves, counts


def _series(name: Score, quality: ScoreQuality) -> Series:
    bins = [one for one in quality.bins if one.mean_score is not None and one.mean_iou is not None]
    return Series(
        name=_NAMES[name],
        points=[(one.mean_score or 0.0, one.mean_iou or 0.0) for one in bins],
        marks=True,
        hollow=[index for index, one in enumerate(bins) if one.count < _FEW],
        number=_COLORS[name],
        shape=_SHAPES[name],
    )


def _numbers(name: Score, quality: ScoreQuality) -> str:
    measures = {"Spearman": quality.spearman, "calibration error": quality.calibration_error}
    values = ", ".join(f"{what} {'–' if value is None else f'{value:.3f}'}" for what, value in measures.items())
    return f"{_NAMES[name]}: {values}"
